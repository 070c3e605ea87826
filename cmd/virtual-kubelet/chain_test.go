// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
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
	// registry has the figures of API and sidecar.
	registry *prometheus.Registry

	mu      sync.Mutex
	callers []net.Conn
}

// sessions are how many connections into pods the API and the sidecar have open.
func (c *chain) sessions() float64 {
	families, err := c.registry.Gather()
	require.NoError(c.t, err)
	open := 0.0
	for _, family := range families {
		if name := family.GetName(); name == "caas_interlink_sessions" || name == "caas_sidecar_sessions" {
			for _, metric := range family.GetMetric() {
				open += metric.GetGauge().GetValue()
			}
		}
	}
	return open
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

// startChain starts all hops, of which the first has at most limit connections open.
func startChain(t *testing.T, limit int) *chain {
	t.Helper()
	c := &chain{t: t, cluster: interlinktest.NewCluster(t, ""), registry: prometheus.NewRegistry()}
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
		Client: remote, LogClient: target, Upgrades: &http.Transport{}, Registry: c.registry,
		Settings: plugin.Settings{Namespace: plugin.NamespaceRule{Mode: plugin.NamespaceFixed, Fixed: "cms"}},
	})
	require.NoError(t, err)
	background(t, sidecar.Run)
	require.Eventually(t, func() bool { return sidecar.Ready(t.Context()) == nil }, chainPatient, time.Millisecond)
	middle, err := gateway.New(gateway.Config{
		PluginURL: listen(t, sidecar.Handler()), Registry: c.registry, Authenticate: func(*http.Request) (string, error) { return "af", nil },
	})
	require.NoError(t, err)
	base := listen(t, middle.Handler())
	transport, err := interlink.NewTransport(base, nil)
	require.NoError(t, err)
	far, err := interlink.NewClient(interlink.ClientConfig{BaseURL: base, HTTP: &http.Client{Transport: transport}})
	require.NoError(t, err)
	c.provide(far, limit)
	return c
}

// provide starts provider and kubelet port in front of far, with one pod that runs.
func (c *chain) provide(far *interlink.Client, limit int) {
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
		Certificate: kubeletport.Certificate{SelfSigned: true}, Routes: api.PodHandlerConfig{}, Streams: main.Streams(c.pods), MaxStreams: limit,
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

// line puts a line before the kubelet port that kill cuts.
func (c *chain) line() {
	c.t.Helper()
	target := strings.TrimPrefix(c.kubelet, "https://")
	listener, err := (&net.ListenConfig{}).Listen(c.t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(c.t, err)
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := (&net.Dialer{}).DialContext(c.t.Context(), "tcp", target)
			if !assert.NoError(c.t, err) {
				_ = near.Close()
				return
			}
			c.mu.Lock()
			c.callers = append(c.callers, near, far)
			c.mu.Unlock()
			passing.Go(func() { _, _ = io.Copy(far, near) })
			passing.Go(func() { _, _ = io.Copy(near, far) })
		}
	})
	c.t.Cleanup(func() {
		_ = listener.Close()
		c.kill()
		passing.Wait()
	})
	c.kubelet = "https://" + listener.Addr().String()
}

// kill cuts the lines of all callers.
func (c *chain) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.callers {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // as when a process ends that has not read everything
		}
		_ = conn.Close()
	}
}

// forwarding forwards ports of the pod, until stop.
func (c *chain) forwarding(ports ...string) (addresses []string, stop func()) {
	t := c.t
	t.Helper()
	transport, upgrader, err := spdy.RoundTripperFor(c.config())
	require.NoError(t, err)
	target, err := url.Parse(c.kubelet + "/portForward/user/p")
	require.NoError(t, err)
	for i := range ports {
		ports[i] = "0:" + ports[i]
	}
	stopping, ready, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	forwarder, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target),
		ports, stopping, ready, io.Discard, io.Discard)
	require.NoError(t, err)
	go func() { done <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		require.NoError(t, err)
	}
	forwarded, err := forwarder.GetPorts()
	require.NoError(t, err)
	for _, port := range forwarded {
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", port.Local))
	}
	return addresses, func() {
		close(stopping)
		<-done
	}
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
