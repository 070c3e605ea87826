// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	ktesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// newPlugin runs a plugin on client-go's object tracker, for what needs no API
// server: decoding, routing, streaming of bytes.
func newPlugin(tb testing.TB, logs kubernetes.Interface, objects ...runtime.Object) http.Handler {
	tb.Helper()
	return newPluginWith(tb, plugin.Settings{}, logs, objects...)
}

// newPluginWith is newPlugin with some settings of the test's own.
func newPluginWith(tb testing.TB, settings plugin.Settings, logs kubernetes.Interface, objects ...runtime.Object) http.Handler {
	tb.Helper()
	client := fake.NewClientset(objects...)
	client.PrependReactor("create", "selfsubjectaccessreviews", func(action ktesting.Action) (bool, runtime.Object, error) {
		review := action.(ktesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
		review.Status.Allowed = review.Spec.ResourceAttributes.Verb == "create"
		return true, review, nil
	})
	client.PrependReactor("create", "pods", func(action ktesting.Action) (bool, runtime.Object, error) {
		action.(ktesting.CreateAction).GetObject().(*corev1.Pod).UID = uuid.NewUUID() // the tracker gives none
		return false, nil, nil
	})
	settings.Namespace = plugin.NamespaceRule{Mode: plugin.NamespaceFixed, Fixed: "cms"}
	settings.Policy = translate.Policy{Volumes: []translate.VolumeRule{{
		Match:  translate.VolumeMatch{Kind: "persistentVolumeClaim"},
		Target: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "ours"}},
	}}}
	var upgrades http.RoundTripper
	if logs != nil {
		upgrades = &http.Transport{}
	}
	p, err := plugin.New(plugin.Config{
		Client: client, LogClient: logs, Upgrades: upgrades, Registry: prometheus.NewRegistry(),
		Settings: settings,
	})
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	tb.Cleanup(func() {
		cancel()
		running.Wait()
	})
	require.Eventually(tb, func() bool { return p.Ready(tb.Context()) == nil }, 10*time.Second, 5*time.Millisecond)
	return p.Handler()
}

func namespace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}}
}

// TestFixtures replays the requests that API servers of all versions send.
func TestFixtures(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../internal/interlink/testdata/plugin/*.http")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			head, body, found := bytes.Cut(content, []byte("\n\n"))
			require.True(t, found)
			lines := strings.Split(string(head), "\n")
			method, path, _ := strings.Cut(lines[0], " ")
			request := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
			for _, line := range lines[1:] {
				key, value, _ := strings.Cut(line, ": ")
				request.Header.Set(key, value)
			}
			answer := httptest.NewRecorder()
			newPlugin(t, nil, namespace()).ServeHTTP(answer, request)
			if path == interlink.PathLogs {
				assert.Equal(t, http.StatusNotFound, answer.Code, "nobody created it")
				return
			}
			require.Equal(t, http.StatusOK, answer.Code, answer.Body.String())
			if path != interlink.PathCreate {
				return
			}
			var created interlink.Created
			require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &created))
			assert.NotEmpty(t, created.PodUID)
			assert.True(t, strings.HasPrefix(created.PodJID, "cms/"))
		})
	}
}

func send(tb testing.TB, handler http.Handler, path string, body []byte) *httptest.ResponseRecorder {
	tb.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequestWithContext(tb.Context(), http.MethodPost, path, bytes.NewReader(body)))
	return answer
}

// logServer is a target cluster's log route, answered by handle.
func logServer(t *testing.T, handle http.HandlerFunc) *kubernetes.Clientset {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	return client
}

// serveWithPod serves a plugin that created one pod, and returns the log route's
// address and the pod's UID.
func serveWithPod(t *testing.T, logs kubernetes.Interface) (url, uid string) {
	t.Helper()
	handler := newPlugin(t, logs, namespace())
	body := `{"pod":{"metadata":{"name":"p","namespace":"n","uid":"u-1"},"spec":{"containers":[{"name":"main","image":"i"}]}}}`
	require.Equal(t, http.StatusOK, send(t, handler, interlink.PathCreate, []byte(body)).Code)
	return serveHandler(t, handler) + interlink.PathLogs, "u-1"
}

// serveHandler serves a plugin's routes as its program does.
func serveHandler(t *testing.T, handler http.Handler) string {
	t.Helper()
	server, err := httpserver.New(httpserver.Config{Address: "127.0.0.1:0", Handler: handler, GracePeriod: time.Second})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return "http://" + server.Addr().String()
}

func askLog(ctx context.Context, t *testing.T, url string, request interlink.LogRequest) *http.Response {
	t.Helper()
	body, err := json.Marshal(request)
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, bytes.NewReader(body))
	require.NoError(t, err)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	answer, err := transport.RoundTrip(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

func TestLogOptionsAndBytes(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	var query string
	url, uid := serveWithPod(t, logServer(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		assert.Regexp(t, `^/api/v1/namespaces/cms/pods/p-[0-9a-f]{16}/log$`, r.URL.Path)
		_, _ = w.Write([]byte("caf\xe9\nline\n"))
	}))
	answer := askLog(t.Context(), t, url, interlink.LogRequest{PodUID: uid, ContainerName: "main", Opts: interlink.LogOptions{
		Tail: 5, LimitBytes: 100, Timestamps: true, Previous: true, SinceTime: since,
	}})
	assert.Equal(t, http.StatusOK, answer.StatusCode)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	assert.Equal(t, "caf\xe9\nline\n", string(body), "byte for byte")
	for _, want := range []string{"container=main", "tailLines=5", "limitBytes=100", "timestamps=true", "previous=true", "sinceTime=2026-05-04T10%3A00%3A00Z"} {
		assert.Contains(t, query, want)
	}
}

func TestLogFollowAndHangUp(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	url, uid := serveWithPod(t, logServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("first\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(left)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answer := askLog(ctx, t, url, interlink.LogRequest{PodUID: uid, Opts: interlink.LogOptions{Follow: true}})
	line, err := bufio.NewReader(answer.Body).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "first\n", line, "at once, while the log goes on")
	cancel()
	limit, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	select {
	case <-left:
	case <-limit.Done():
		assert.Fail(t, "the target cluster's stream is still open")
	}
}

func TestLogErrors(t *testing.T) {
	t.Parallel()
	sentence := `container "main" in pod "p" is waiting to start: ContainerCreating`
	url, uid := serveWithPod(t, logServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: 400, Reason: "BadRequest", Message: sentence,
		})
	}))
	answer := askLog(t.Context(), t, url, interlink.LogRequest{PodUID: uid})
	assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	assert.Equal(t, sentence+"\n", string(body))
}

// A user whose origin lets him read the log must not be told that he is not known.
func TestLogWithoutTheSidecarsCredentials(t *testing.T) {
	t.Parallel()
	url, uid := serveWithPod(t, logServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	answer := askLog(t.Context(), t, url, interlink.LogRequest{PodUID: uid})
	assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	assert.Contains(t, string(body), "the sidecar's credentials")
}

func TestLogThatBreaksIsNotTakenForWhole(t *testing.T) {
	t.Parallel()
	url, uid := serveWithPod(t, logServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("half\n"))
	}))
	answer := askLog(t.Context(), t, url, interlink.LogRequest{PodUID: uid})
	_, err := io.ReadAll(answer.Body)
	assert.Error(t, err)
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handler := newPlugin(t, nil, namespace())
		reader, writer := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			handler.ServeHTTP(&pipeWriter{writer}, httptest.NewRequestWithContext(ctx, http.MethodGet, interlink.PathWatch, nil))
			_ = writer.Close()
		}()
		lines := bufio.NewScanner(reader)
		var types []interlink.EventType
		begin := time.Now()
		for len(types) < 4 && lines.Scan() {
			var event interlink.StatusEvent
			require.NoError(t, json.Unmarshal(lines.Bytes(), &event))
			types = append(types, event.Type)
		}
		cancel()
		_, _ = io.Copy(io.Discard, reader)
		<-done
		assert.Equal(t, []interlink.EventType{interlink.EventNode, interlink.EventSynced, interlink.EventHeartbeat, interlink.EventHeartbeat}, types)
		assert.InDelta(t, 2*interlink.HeartbeatSeconds, time.Since(begin).Seconds(), 1)
	})
}

// pipeWriter is an answer that is read while it is written.
type pipeWriter struct{ io.Writer }

func (*pipeWriter) Header() http.Header { return http.Header{} }
func (*pipeWriter) WriteHeader(int)     {}
func (*pipeWriter) Flush()              {}
