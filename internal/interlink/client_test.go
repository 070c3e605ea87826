// SPDX-License-Identifier: Apache-2.0

package interlink_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
)

func newClient(t *testing.T, handler http.HandlerFunc) *interlink.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return clientOf(t, interlink.ClientConfig{BaseURL: server.URL, HTTP: server.Client()})
}

func clientOf(t *testing.T, cfg interlink.ClientConfig) *interlink.Client {
	t.Helper()
	client, err := interlink.NewClient(cfg)
	require.NoError(t, err)
	return client
}

// TestClientSendsTheProtocolsMethods holds the client to the exact methods, which
// plugins of other languages check.
func TestClientSendsTheProtocolsMethods(t *testing.T) {
	t.Parallel()
	type seen struct{ method, path, contentType, session, authorization, body string }
	requests := make(chan seen, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		requests <- seen{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get(interlink.HeaderSession), r.Header.Get("Authorization"), string(body)}
		switch r.URL.Path {
		case interlink.PathCreate:
			_, _ = io.WriteString(w, `{"PodUID":"uid-1","PodJID":"job"}`)
		case interlink.PathStatus:
			_, _ = io.WriteString(w, `null`)
		default:
			_, _ = io.WriteString(w, `[]`)
		}
	}))
	t.Cleanup(server.Close)
	client := clientOf(t, interlink.ClientConfig{
		BaseURL: server.URL + "/", HTTP: server.Client(), Token: func() (string, error) { return "t", nil },
	})
	ctx := t.Context()
	one := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "uid-1"}}

	answer, err := client.Ping(ctx)
	require.NoError(t, err)
	assert.Equal(t, interlink.PingResponse{}, answer, "a list is the answer of older plugins")
	got := <-requests
	assert.Regexp(t, `^PingInterLink#\d+$`, got.session)
	got.session = ""
	assert.Equal(t, seen{method: http.MethodPost, path: "/pinglink", authorization: "Bearer t"}, got)

	created, err := client.Create(ctx, &interlink.CreateRequest{Pod: *one})
	require.NoError(t, err)
	assert.Equal(t, interlink.Created{PodUID: "uid-1", PodJID: "job"}, created)
	got = <-requests
	assert.Equal(t, "POST /create application/json", strings.Join([]string{got.method, got.path, got.contentType}, " "))
	assert.Contains(t, got.body, `"configmaps":null,"secrets":null,"projectedvolumesmaps":null,"jobscriptURL":""}`)

	statuses, err := client.Status(ctx, []*corev1.Pod{one})
	require.NoError(t, err)
	assert.Empty(t, statuses)
	got = <-requests
	assert.Equal(t, "GET /status", got.method+" "+got.path)
	assert.True(t, strings.HasPrefix(got.body, "[{"))

	require.NoError(t, client.Delete(ctx, one))
	got = <-requests
	assert.Equal(t, "DELETE /delete", got.method+" "+got.path)

	stream, err := client.Logs(ctx, interlink.LogRequest{PodName: "p"})
	require.NoError(t, err)
	require.NoError(t, stream.Close())
	got = <-requests
	assert.Equal(t, "GET /getLogs", got.method+" "+got.path)
	assert.Contains(t, got.body, `"Previous":false`)
	assert.Contains(t, got.body, `"SinceTime":"0001-01-01T00:00:00Z"`)
}

func TestClientErrors(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 10000)
	for name, test := range map[string]struct {
		answer   http.HandlerFunc
		message  string
		code     int
		refused  bool
		notFound bool
	}{
		"refused": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(interlink.HeaderRefusal, "true")
			http.Error(w, "spec.hostPID is not allowed", http.StatusUnprocessableEntity)
		}, "create pod: far end answered 422: spec.hostPID is not allowed", 422, true, false},
		"not found": {http.NotFound, "create pod: far end answered 404: 404 page not found", 404, false, true},
		"no text": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		}, "create pod: far end answered 502 Bad Gateway", 502, false, false},
		"201 is no success": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
		}, "create pod: far end answered 201 Created", 201, false, false},
		"long text is shortened": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, long, http.StatusInternalServerError)
		}, "create pod: far end answered 500: " + strings.Repeat("ä", 2048), 500, false, false},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "fine")
		}, "create pod: decode answer", 0, false, false},
		"other pod": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"PodUID":"other","PodJID":"j"}`)
		}, `answer is for pod UID "other", asked for "uid-1"`, 0, false, false},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		}, "create pod: read answer", 0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, test.answer)
			_, err := client.Create(t.Context(), &interlink.CreateRequest{Pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "uid-1"}}})
			require.ErrorContains(t, err, test.message)
			assert.LessOrEqual(t, len(err.Error()), 5000)
			assert.Equal(t, test.refused, interlink.IsRefused(err))
			assert.Equal(t, test.notFound, interlink.IsNotFound(err))
			if status, ok := errors.AsType[*interlink.StatusError](err); ok {
				assert.Equal(t, test.code, status.Code)
			} else {
				assert.Zero(t, test.code)
			}
		})
	}
}

func TestClientDeadlineAndToken(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	client := clientOf(t, interlink.ClientConfig{BaseURL: server.URL, HTTP: server.Client(), Timeout: 50 * time.Millisecond})
	_, err := client.Status(t.Context(), nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	client = clientOf(t, interlink.ClientConfig{BaseURL: server.URL, HTTP: server.Client(), Token: func() (string, error) {
		return "", errors.New("no such file")
	}})
	_, err = client.Ping(t.Context())
	require.ErrorContains(t, err, "ping: bearer token: no such file")
}

func TestClientRefusesBadAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "localhost:3000", "ftp://x", "http://", "http://a b"} {
		_, err := interlink.NewClient(interlink.ClientConfig{BaseURL: address, HTTP: &http.Client{}})
		require.Error(t, err, address)
	}
	_, err := interlink.NewClient(interlink.ClientConfig{BaseURL: "http://x"})
	require.ErrorContains(t, err, "no HTTP client")
}

func TestUnixSocketTransport(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "api.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	require.NoError(t, err)
	hosts := make(chan string, 1)
	server := &httptest.Server{Listener: listener, Config: &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hosts <- r.Host + r.URL.Path
			_, _ = w.Write(interlinktest.Answer(t, "testdata/answers", "ping-0.6.2"))
		}),
	}}
	server.Start()
	t.Cleanup(server.Close)
	base := "unix://" + path
	transport, err := interlink.NewTransport(base, nil)
	require.NoError(t, err)
	t.Cleanup(transport.CloseIdleConnections)
	client := clientOf(t, interlink.ClientConfig{BaseURL: base, HTTP: &http.Client{Transport: transport}})
	answer, err := client.Ping(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "64", answer.Resources.CPU)
	assert.Equal(t, "unix/pinglink", <-hosts)
}
