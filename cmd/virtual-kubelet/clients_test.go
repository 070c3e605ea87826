// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider"
	"github.com/cloudveneto/caas/provider/bundle"
	gateway "github.com/cloudveneto/caas/sidecar/api"
	"github.com/cloudveneto/caas/sidecar/clients"
	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/watch"
)

// waiting is what a pod that has not been created says to its user at its origin, or "".
func waiting(t *testing.T, origin *fake.Clientset, name string) string {
	t.Helper()
	pod, err := origin.CoreV1().Pods("user").Get(t.Context(), name, metav1.GetOptions{})
	if !assert.NoError(t, err) || pod.Status.Phase != corev1.PodPending || len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Waiting == nil {
		return ""
	}
	return pod.Status.ContainerStatuses[0].State.Waiting.Message
}

// oneService is a plugin that serves one client.
type oneService struct {
	http.Handler
	*plugin.Plugin
}

// smallSite is a site whose client "af" may have one pod; it returns the site's cluster and where its API is for a caller.
func smallSite(t *testing.T) (remote *fake.Clientset, far func(caller string) *interlink.Client) {
	t.Helper()
	remote = fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}}, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "large"},
		Status: corev1.NodeStatus{
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourcePods: resource.MustParse("110")},
		},
	})
	remote.PrependReactor("create", "selfsubjectaccessreviews", allow)
	remote.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, kruntime.Object, error) {
		create, _ := action.(clienttesting.CreateAction)
		pod, _ := create.GetObject().(*corev1.Pod)
		pod.UID = uuid.NewUUID() // the tracker gives none
		return false, nil, nil
	})
	registry := prometheus.NewRegistry()
	p, err := plugin.New(plugin.Config{
		Client: remote, Registry: registry, Origins: watch.Origins{Only: "af"}, Settings: plugin.Settings{
			Namespace: plugin.NamespaceRule{Mode: plugin.NamespaceFixed, Fixed: "cms"},
			Share:     corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1")},
		},
	})
	require.NoError(t, err)
	background(t, p.Run)
	require.Eventually(t, func() bool { return p.Ready(t.Context()) == nil }, chainPatient, time.Millisecond)
	router, err := clients.New(clients.Config{Served: map[string]clients.Service{"af": oneService{p.Handler(), p}}, Registry: registry})
	require.NoError(t, err)
	plugin := listen(t, router)
	return remote, func(caller string) *interlink.Client {
		middle, err := gateway.New(gateway.Config{PluginURL: plugin, Authenticate: func(*http.Request) (string, error) { return caller, nil }})
		require.NoError(t, err)
		t.Cleanup(middle.Close)
		base := listen(t, middle.Handler())
		transport, err := interlink.NewTransport(base, nil)
		require.NoError(t, err)
		client, err := interlink.NewClient(interlink.ClientConfig{BaseURL: base, HTTP: &http.Client{Transport: transport}})
		require.NoError(t, err)
		return client
	}
}

// TestPodBeyondTheShareWaits: two pods, and room for one. The other tells its user why it waits, and is created when the
// first has ended, without anybody's doing.
func TestPodBeyondTheShareWaits(t *testing.T) {
	t.Parallel()
	remote, site := smallSite(t)
	far := site("af")
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: name, UID: types.UID("00000000-0000-4000-8000-00000000000" + name)},
			Spec:       corev1.PodSpec{NodeName: "n", RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
		}
	}
	origin := fake.NewClientset(pod("1"), pod("2"))
	recorder := record.NewFakeRecorder(100)
	collector, err := bundle.New(bundle.Config{Client: origin, Recorder: recorder})
	require.NoError(t, err)
	pods, err := provider.New(provider.Config{
		NodeName: "n", ClusterID: "af", Client: origin, FarEnd: far, Sessions: far, Bundler: collector, Recorder: recorder,
	})
	require.NoError(t, err)
	var ping interlink.PingResponse
	require.Eventually(t, func() bool {
		ping, err = far.Ping(t.Context())
		return err == nil && ping.Resources != nil && ping.Resources.Pods == "1" && ping.Resources.CPU == "64"
	}, chainPatient, 10*time.Millisecond, "the virtual node has room for one pod")
	background(t, pods.Run)
	pods.Offer(ping)

	require.Eventually(t, func() bool {
		return strings.Contains(waiting(t, origin, "1")+waiting(t, origin, "2"),
			"exceeds this cluster's share of the site (pods: requested 1, used 1, share 1)")
	}, chainPatient, 10*time.Millisecond)
	created := func() []corev1.Pod {
		list, err := remote.CoreV1().Pods("cms").List(t.Context(), metav1.ListOptions{})
		assert.NoError(t, err)
		return list.Items
	}
	first := created()
	require.Len(t, first, 1, "the other was not sent to the cluster")
	first[0].Status = corev1.PodStatus{Phase: corev1.PodSucceeded}
	_, err = remote.CoreV1().Pods("cms").UpdateStatus(t.Context(), &first[0], metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(created()) == 2 }, time.Minute, 20*time.Millisecond)
}

// TestSiteThatDoesNotKnowTheCluster: the virtual node's ping says so, and so does every other request.
func TestSiteThatDoesNotKnowTheCluster(t *testing.T) {
	t.Parallel()
	_, site := smallSite(t)
	stranger := site("mallory")
	_, err := stranger.Ping(t.Context())
	const want = `far end answered 403: the site does not know the client "mallory"`
	require.ErrorContains(t, err, want)
	_, err = stranger.Create(t.Context(), &interlink.CreateRequest{Pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: uuid.NewUUID()}}})
	require.ErrorContains(t, err, want)
	assert.False(t, interlink.IsRefused(err), "the pod waits until the site knows the cluster")
}
