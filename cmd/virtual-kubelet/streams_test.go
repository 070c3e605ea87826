// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"

	main "github.com/cloudveneto/caas/cmd/virtual-kubelet"
	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
	"github.com/cloudveneto/caas/provider"
	"github.com/cloudveneto/caas/provider/bundle"
	"github.com/cloudveneto/caas/provider/kubeletport"
	gateway "github.com/cloudveneto/caas/sidecar/api"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

const (
	chainUID     = "6f1f4a52-9c5e-4a0e-8f0d-5b1c7f3f2a01"
	chainPatient = 20 * time.Second
)

// chain is every hop between an API server and a kubelet: kubelet port, provider,
// API, plugin. The API server before it is client-go, the target cluster behind it
// a double that speaks the protocols by Kubernetes' own libraries.
type chain struct {
	t       *testing.T
	cluster *interlinktest.Cluster
	pods    *provider.Provider
	kubelet string
}

// background runs what blocks until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func listen(t *testing.T, handler http.Handler) string {
	t.Helper()
	server, err := httpserver.New(httpserver.Config{Address: "127.0.0.1:0", Handler: handler, GracePeriod: time.Second})
	require.NoError(t, err)
	background(t, server.Run)
	return "http://" + server.Addr().String()
}

func startChain(t *testing.T) *chain {
	t.Helper()
	c := &chain{t: t, cluster: interlinktest.NewCluster(t, "")}
	target, err := kubernetes.NewForConfig(&rest.Config{Host: c.cluster.URL})
	require.NoError(t, err)
	remote := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}})
	remote.PrependReactor("create", "selfsubjectaccessreviews", allow)
	remote.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, kruntime.Object, error) {
		create, _ := action.(clienttesting.CreateAction)
		pod, _ := create.GetObject().(*corev1.Pod)
		pod.UID = "remote" // the tracker gives none
		return false, nil, nil
	})
	sidecar, err := plugin.New(plugin.Config{
		Client: remote, LogClient: target, Upgrades: &http.Transport{}, Registry: prometheus.NewRegistry(),
		Settings: plugin.Settings{Namespace: plugin.NamespaceRule{Mode: plugin.NamespaceFixed, Fixed: "cms"}},
	})
	require.NoError(t, err)
	background(t, sidecar.Run)
	require.Eventually(t, func() bool { return sidecar.Ready(t.Context()) == nil }, chainPatient, time.Millisecond)
	middle, err := gateway.New(gateway.Config{
		PluginURL: listen(t, sidecar.Handler()), Authenticate: func(*http.Request) (string, error) { return "af", nil },
	})
	require.NoError(t, err)
	base := listen(t, middle.Handler())
	transport, err := interlink.NewTransport(base, nil)
	require.NoError(t, err)
	far, err := interlink.NewClient(interlink.ClientConfig{BaseURL: base, HTTP: &http.Client{Transport: transport}})
	require.NoError(t, err)
	c.provide(far)
	return c
}

// provide starts provider and kubelet port in front of far, with one pod that runs.
func (c *chain) provide(far *interlink.Client) {
	t := c.t
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: "p", UID: chainUID},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
	}
	origin := fake.NewClientset(pod)
	recorder := record.NewFakeRecorder(100)
	collector, err := bundle.New(bundle.Config{Client: origin, Recorder: recorder})
	require.NoError(t, err)
	c.pods, err = provider.New(provider.Config{
		NodeName: "n", ClusterID: "af", Client: origin, FarEnd: far, Sessions: far, Bundler: collector, Recorder: recorder,
	})
	require.NoError(t, err)
	background(t, c.pods.Run)
	port, err := kubeletport.New(t.Context(), kubeletport.Config{
		Address: "127.0.0.1:0", NodeName: "n", NodeAddress: "127.0.0.1", Client: reviewer(t),
		Certificate: kubeletport.Certificate{SelfSigned: true}, Routes: api.PodHandlerConfig{}, Streams: main.Streams(c.pods),
	})
	require.NoError(t, err)
	background(t, port.Run)
	c.kubelet = "https://" + port.Addr().String()
	ping, err := far.Ping(t.Context())
	require.NoError(t, err)
	c.pods.Offer(ping)
	require.Eventually(t, func() bool {
		statuses, err := far.Status(t.Context(), []*corev1.Pod{pod})
		return err == nil && len(statuses) == 1 && !statuses[0].Absent()
	}, chainPatient, 5*time.Millisecond, "the pod is created at the far end")
}

func allow(action clienttesting.Action) (bool, kruntime.Object, error) {
	create, _ := action.(clienttesting.CreateAction)
	review, _ := create.GetObject().(*authorizationv1.SelfSubjectAccessReview)
	answer := review.DeepCopy()
	answer.Status.Allowed = true
	return true, answer, nil
}

// reviewer is the origin's API server, which knows everybody.
func reviewer(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/tokenreviews") {
			_ = json.NewEncoder(w).Encode(authenticationv1.TokenReview{Status: authenticationv1.TokenReviewStatus{
				Authenticated: true, User: authenticationv1.UserInfo{Username: "apiserver"},
			}})
			return
		}
		_ = json.NewEncoder(w).Encode(authorizationv1.SubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{Allowed: true}})
	}))
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	return client
}

func (c *chain) config() *rest.Config {
	return &rest.Config{Host: c.kubelet, BearerToken: "any", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

// executor asks the kubelet port as an API server does.
func (c *chain) executor(route string, options remotecommand.StreamOptions, command ...string) remotecommand.Executor {
	c.t.Helper()
	target, err := url.Parse(c.kubelet + "/" + route + "/user/p/main")
	require.NoError(c.t, err)
	query := url.Values{"command": command}
	for name, wanted := range map[string]bool{
		"input": options.Stdin != nil, "output": options.Stdout != nil, "error": options.Stderr != nil, "tty": options.Tty,
	} {
		if wanted {
			query.Set(name, "1")
		}
	}
	target.RawQuery = query.Encode()
	executor, err := remotecommand.NewSPDYExecutor(c.config(), http.MethodPost, target)
	require.NoError(c.t, err)
	return executor
}

func (c *chain) exec(ctx context.Context, options remotecommand.StreamOptions, command ...string) error {
	c.t.Helper()
	return c.executor("exec", options, command...).StreamWithContext(ctx, options)
}

func TestExecThroughAllHops(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	var out, failure bytes.Buffer
	require.NoError(t, c.exec(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out}, "cat"))
	assert.Equal(t, "hello", out.String())
	err := c.exec(t.Context(), remotecommand.StreamOptions{Stdout: &out, Stderr: &failure}, "exit", "42")
	var code exec.CodeExitError
	require.ErrorAs(t, err, &code)
	assert.Equal(t, 42, code.Code)
	assert.Equal(t, "about to fail\n", failure.String())

	out.Reset()
	options := remotecommand.StreamOptions{Stdin: strings.NewReader("typed"), Stdout: &out}
	require.NoError(t, c.executor("attach", options).StreamWithContext(t.Context(), options))
	assert.Equal(t, "typed", out.String())
}

// terminalSizes is a terminal that is resized as told.
type terminalSizes chan remotecommand.TerminalSize

func (s terminalSizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestResizeThroughAllHops(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	queue := make(terminalSizes, 3)
	defer close(queue)
	for _, width := range []uint16{80, 100, 132} {
		queue <- remotecommand.TerminalSize{Width: width, Height: 24}
	}
	var out bytes.Buffer
	require.NoError(t, c.exec(t.Context(), remotecommand.StreamOptions{
		Stdin: strings.NewReader(""), Stdout: &out, Tty: true, TerminalSizeQueue: queue,
	}, "sizes", "3"))
	assert.Equal(t, "80x24\n100x24\n132x24\n", out.String())
}

func TestMuchDataThroughAllHops(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	const size = 32 << 20
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	sum := sha256.Sum256(content)
	var out bytes.Buffer
	require.NoError(t, c.exec(t.Context(), remotecommand.StreamOptions{Stdin: bytes.NewReader(content), Stdout: &out}, "sum"))
	assert.Equal(t, fmt.Sprintf("%d %s\n", size, hex.EncodeToString(sum[:])), out.String())
	counted := &count{}
	require.NoError(t, c.exec(t.Context(), remotecommand.StreamOptions{Stdout: counted}, "flood", fmt.Sprint(size)))
	assert.Equal(t, size, counted.size)
}

type count struct{ size int }

func (c *count) Write(p []byte) (int, error) {
	c.size += len(p)
	return len(p), nil
}

// TestSlowReaderHoldsTheWriter: what a caller does not read must not pile up in any
// hop. All of them, and the cluster's double, share this process's memory.
//
//nolint:paralleltest // it measures the memory of the process
func TestSlowReaderHoldsTheWriter(t *testing.T) {
	c := startChain(t)
	const size = 512 << 20
	ctx, hangUp := context.WithCancel(t.Context())
	from, to := io.Pipe()
	done := make(chan error, 1)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	go func() {
		err := c.exec(ctx, remotecommand.StreamOptions{Stdout: to}, "flood", fmt.Sprint(size))
		_ = to.CloseWithError(err)
		done <- err
	}()
	_, err := io.ReadFull(from, make([]byte, 1<<20))
	require.NoError(t, err)
	<-time.After(2 * time.Second) // all buffers fill
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(128<<20))
	_, err = io.ReadFull(from, make([]byte, 1<<20))
	require.NoError(t, err, "it goes on where it stopped")
	hangUp()
	require.Error(t, <-done)
	require.Eventually(t, func() bool { return c.cluster.Open() == 0 }, chainPatient, time.Millisecond)
}

func TestHangUpThroughAllHops(t *testing.T) {
	t.Parallel()
	for name, caller := range map[string]bool{"the caller": true, "the cluster": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startChain(t)
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			from, to := io.Pipe()
			done := make(chan error, 1)
			go func() {
				err := c.exec(ctx, remotecommand.StreamOptions{Stdout: to}, "wait")
				_ = to.CloseWithError(err)
				done <- err
			}()
			_, err := io.ReadFull(from, make([]byte, len("waiting\n")))
			require.NoError(t, err)
			begun := time.Now()
			if caller {
				hangUp()
			} else {
				c.cluster.HangUp()
			}
			require.Error(t, <-done)
			require.Eventually(t, func() bool { return c.cluster.Open() == 0 }, chainPatient, time.Millisecond)
			t.Logf("noticed after %s", time.Since(begun))
		})
	}
}

func TestPortForwardThroughAllHops(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	transport, upgrader, err := spdy.RoundTripperFor(c.config())
	require.NoError(t, err)
	target, err := url.Parse(c.kubelet + "/portForward/user/p")
	require.NoError(t, err)
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target),
		[]string{"0:7", "0:9"}, stop, ready, io.Discard, io.Discard)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	<-ready
	ports, err := forwarder.GetPorts()
	require.NoError(t, err)
	var dialing sync.WaitGroup
	for i := range 8 {
		dialing.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
			if !assert.NoError(t, err) {
				return
			}
			defer func() { _ = conn.Close() }()
			content := bytes.Repeat([]byte{byte('a' + i)}, 1<<20)
			go func() { _, _ = conn.Write(content) }()
			echo := make([]byte, len(content))
			_, err = io.ReadFull(conn, echo)
			assert.NoError(t, err)
			assert.Equal(t, content, echo)
		})
	}
	dialing.Wait()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", ports[1].Local))
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(chainPatient)))
	said, err := io.ReadAll(conn)
	require.NoError(t, err, "a port that nobody serves ends the connection to it, not the others")
	assert.Empty(t, said)
	close(stop)
	<-done
	require.Eventually(t, func() bool { return c.cluster.Open() == 0 }, chainPatient, time.Millisecond)
}

func TestWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	client := &http.Client{Transport: func() *http.Transport {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		t.Cleanup(transport.CloseIdleConnections)
		return transport
	}()}
	ask := func(path string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.kubelet+path, nil)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer any")
		answer, err := client.Do(request)
		require.NoError(t, err)
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body)
	}
	code, text := ask("/exec/user/p/other?output=1")
	assert.Equal(t, http.StatusNotFound, code)
	assert.Contains(t, text, `no container "other"`)
	code, _ = ask("/exec/user/unknown/main?output=1")
	assert.Equal(t, http.StatusNotFound, code)
	c.pods.Offer(interlink.PingResponse{}) // the far end is upstream's now
	for _, path := range []string{"/exec/user/p/main?output=1", "/attach/user/p/main?output=1", "/portForward/user/p"} {
		code, text = ask(path)
		assert.Equal(t, http.StatusNotImplemented, code)
		assert.Contains(t, text, "not offered by the far end of this virtual node")
	}
}
