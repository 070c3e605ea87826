// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/remotecommand"

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
