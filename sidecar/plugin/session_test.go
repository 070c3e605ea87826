// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

// sessionSite is a plugin with one pod in a target cluster that opens streams, and
// a client of a virtual kubelet's.
func sessionSite(t *testing.T, settings plugin.Settings) (cluster *interlinktest.Cluster, url, uid string) {
	t.Helper()
	cluster = interlinktest.NewCluster(t, "")
	target, err := kubernetes.NewForConfig(&rest.Config{Host: cluster.URL})
	require.NoError(t, err)
	handler := newPluginWith(t, settings, target, namespace())
	body := `{"pod":{"metadata":{"name":"p","namespace":"n","uid":"u-1"},"spec":{"containers":[{"name":"main","image":"i"}]}}}`
	require.Equal(t, http.StatusOK, send(t, handler, interlink.PathCreate, []byte(body)).Code)
	return cluster, serveHandler(t, handler), "u-1"
}

// caller is a client whose requests carry headers, as an API server's do.
func caller(t *testing.T, url string, header http.Header) *interlink.Client {
	t.Helper()
	client, err := interlink.NewClient(interlink.ClientConfig{
		BaseURL: url, HTTP: &http.Client{Transport: &http.Transport{}},
		Streams: interlink.StreamConfig{Wrap: func(next http.RoundTripper) http.RoundTripper {
			return withHeader{next, header}
		}},
	})
	require.NoError(t, err)
	return client
}

type withHeader struct {
	next   http.RoundTripper
	header http.Header
}

func (w withHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	maps.Copy(r.Header, w.header)
	return w.next.RoundTrip(r)
}

func TestSessionReachesThePod(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"websocket", "spdy"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			cluster, url, uid := sessionSite(t, plugin.Settings{})
			cluster.NoWebSocket.Store(protocol == "spdy")
			client := caller(t, url, http.Header{
				"Authorization": {"Bearer stolen"}, "Impersonate-User": {"admin"}, "X-Remote-User": {"admin"}, "Traceparent": {"00-a-b-01"},
			})
			var out, failure bytes.Buffer
			err := client.Exec(t.Context(), &interlink.Terminal{
				PodUID: uid, Container: "main", Command: []string{"exit", "7"}, Stdout: &out, Stderr: &failure,
			})
			var code exec.CodeExitError
			require.ErrorAs(t, err, &code)
			assert.Equal(t, 7, code.Code)
			assert.Equal(t, "about to fail\n", failure.String())
			require.NoError(t, client.Attach(t.Context(), &interlink.Terminal{
				PodUID: uid, Container: "main", Stdin: strings.NewReader("to the main process"), Stdout: &out,
			}))
			assert.Equal(t, "to the main process", out.String())
			forwarder := client.Forwarder(uid)
			defer func() { _ = forwarder.Close() }()
			local, remote := net.Pipe()
			defer func() { _, _ = local.Close(), remote.Close() }()
			require.ErrorContains(t, forwarder.Forward(t.Context(), 22, remote), "connection refused")

			stream := cluster.Streams()[len(cluster.Streams())-1]
			assert.Regexp(t, `^/api/v1/namespaces/cms/pods/.+/portforward$`, stream.Path)
			for _, name := range []string{"Authorization", "Impersonate-User", "X-Remote-User", interlink.HeaderSession} {
				assert.Empty(t, stream.Header.Get(name), "%s is not the caller's to say", name)
			}
			assert.Equal(t, "00-a-b-01", stream.Header.Get("Traceparent"))
			first := cluster.Streams()[0]
			assert.Equal(t, []string{"exit", "7"}, first.Query["command"])
			assert.Equal(t, "main", first.Query.Get("container"))
			assert.Equal(t, "true", first.Query.Get("stderr"))
			assert.Empty(t, first.Query.Get("stdin"))
		})
	}
}

func TestSessionsOfOthersAreNotFound(t *testing.T) {
	t.Parallel()
	cluster, url, uid := sessionSite(t, plugin.Settings{})
	other := caller(t, url, http.Header{interlink.HeaderClient: {"another-cluster"}})
	for _, run := range []func(context.Context, *interlink.Terminal) error{other.Exec, other.Attach} {
		err := run(t.Context(), &interlink.Terminal{PodUID: uid, Command: []string{"cat"}, Stdout: io.Discard})
		require.ErrorContains(t, err, "does not hold this pod")
	}
	forwarder := other.Forwarder(uid)
	local, remote := net.Pipe()
	defer func() { _, _ = local.Close(), remote.Close() }()
	require.ErrorContains(t, forwarder.Forward(t.Context(), 7, remote), "does not hold this pod")
	assert.Empty(t, cluster.Streams(), "the target cluster was not asked")
}

func TestSessionErrorsAreSentences(t *testing.T) {
	t.Parallel()
	cluster, url, uid := sessionSite(t, plugin.Settings{})
	text := `pods "p" is forbidden: User "sidecar" cannot create resource "pods/exec"`
	cluster.Refuse.Store(&text)
	for name, c := range map[string]struct {
		path    string
		upgrade bool
		code    int
		text    string
	}{
		"refused":    {interlink.PodStreamPath(uid, interlink.StreamExec) + "?command=sh&stdout=true", true, http.StatusForbidden, text},
		"no command": {interlink.PodStreamPath(uid, interlink.StreamExec), true, http.StatusBadRequest, "exec needs a command"},
		"no boolean": {interlink.PodStreamPath(uid, interlink.StreamAttach) + "?tty=maybe", true, http.StatusBadRequest, "tty must be true or false"},
		"no upgrade": {interlink.PodStreamPath(uid, interlink.StreamExec), false, http.StatusBadRequest, "upgraded to WebSocket or SPDY/3.1"},
		"no UID":     {"/caas/v1/pods/-/exec", true, http.StatusBadRequest, "no UID"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+c.path, nil)
			require.NoError(t, err)
			if c.upgrade {
				request.Header.Set("Connection", "Upgrade")
				request.Header.Set("Upgrade", "SPDY/3.1")
			}
			answer, err := (&http.Client{}).Do(request)
			require.NoError(t, err)
			defer func() { _ = answer.Body.Close() }()
			body, err := io.ReadAll(answer.Body)
			require.NoError(t, err)
			assert.Equal(t, c.code, answer.StatusCode)
			assert.Contains(t, string(body), c.text)
			assert.NotContains(t, string(body), "apiVersion")
		})
	}
}

// TestWebSocketByItself would be translated by the target's API server, which does not
// say there that the caller has hung up.
func TestWebSocketByItself(t *testing.T) {
	t.Parallel()
	cluster, base, uid := sessionSite(t, plugin.Settings{})
	executor, err := remotecommand.NewWebSocketExecutor(&rest.Config{Host: base}, http.MethodGet,
		base+interlink.PodStreamPath(uid, interlink.StreamExec)+"?command=cat&stdout=true")
	require.NoError(t, err)
	err = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
	require.ErrorContains(t, err, "needs a sub-protocol that begins with SPDY/3.1+")
	assert.Empty(t, cluster.Streams(), "the target cluster was not asked")
}

func TestSessionsAreLimitedAndEndWithTheCaller(t *testing.T) {
	t.Parallel()
	cluster, url, uid := sessionSite(t, plugin.Settings{MaxSessions: 1})
	client := caller(t, url, nil)
	from, to := io.Pipe()
	ctx, hangUp := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		err := client.Exec(ctx, &interlink.Terminal{PodUID: uid, Command: []string{"wait"}, Stdout: to})
		_ = to.CloseWithError(err)
		done <- err
	}()
	_, err := io.ReadFull(from, make([]byte, len("waiting\n")))
	require.NoError(t, err)
	err = client.Exec(t.Context(), &interlink.Terminal{PodUID: uid, Command: []string{"cat"}, Stdout: io.Discard})
	require.ErrorContains(t, err, "connections into pods are open, and no more are allowed")
	hangUp()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Eventually(t, func() bool { return cluster.Open() == 0 && cluster.Running() == 0 }, 10*time.Second, time.Millisecond)
}
