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
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider"
	"github.com/cloudveneto/caas/provider/bundle"
	gateway "github.com/cloudveneto/caas/sidecar/api"
	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// governed is an origin whose pods run, through every hop, by a site's policy.
type governed struct {
	t              *testing.T
	origin, target *fake.Clientset
	recorder       *record.FakeRecorder
}

func govern(t *testing.T, policy translate.Policy, objects ...kruntime.Object) *governed {
	t.Helper()
	g := &governed{
		t: t, origin: fake.NewClientset(objects...), recorder: record.NewFakeRecorder(100),
		target: fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}}),
	}
	g.target.PrependReactor("create", "selfsubjectaccessreviews", allow)
	g.target.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, kruntime.Object, error) {
		create, _ := action.(clienttesting.CreateAction)
		pod, _ := create.GetObject().(*corev1.Pod)
		pod.UID = uuid.NewUUID() // the tracker gives none
		return false, nil, nil
	})
	sidecar, err := plugin.New(plugin.Config{
		Client: g.target, Registry: prometheus.NewRegistry(),
		Settings: plugin.Settings{Namespace: plugin.NamespaceRule{Mode: plugin.NamespaceFixed, Fixed: "cms"}, Policy: policy},
	})
	require.NoError(t, err)
	background(t, sidecar.Run)
	require.Eventually(t, func() bool { return sidecar.Ready(t.Context()) == nil }, chainPatient, time.Millisecond)
	middle, err := gateway.New(gateway.Config{PluginURL: listen(t, sidecar.Handler())})
	require.NoError(t, err)
	base := listen(t, middle.Handler())
	far, err := interlink.NewClient(interlink.ClientConfig{BaseURL: base, HTTP: &http.Client{}})
	require.NoError(t, err)
	collector, err := bundle.New(bundle.Config{Client: g.origin, Recorder: g.recorder})
	require.NoError(t, err)
	pods, err := provider.New(provider.Config{
		NodeName: "n", ClusterID: "af", Client: g.origin, FarEnd: far, Bundler: collector, Recorder: g.recorder,
	})
	require.NoError(t, err)
	background(t, pods.Run)
	ping, err := far.Ping(t.Context())
	require.NoError(t, err)
	pods.Offer(ping)
	return g
}

func policed(change func(*corev1.PodSpec)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: "p", UID: chainUID},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}
	change(&pod.Spec)
	return pod
}

func claimed(name string) corev1.Volume {
	return corev1.Volume{Name: "home", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
	}}
}

// TestPolicyRefusesWithFieldRuleAndRemedy wants all that a site refuses of a pod in the pod's message and in its Event.
func TestPolicyRefusesWithFieldRuleAndRemedy(t *testing.T) {
	t.Parallel()
	g := govern(t, translate.Policy{
		RefusedCapabilities: []corev1.Capability{"SYS_ADMIN"},
		Security:            []translate.SecurityRule{{Field: translate.SecurityRunAsUser, Values: []string{"0"}, Action: translate.SecurityRefuse}},
	}, policed(func(spec *corev1.PodSpec) {
		spec.HostNetwork = true
		spec.Volumes = []corev1.Volume{claimed("data")}
		spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
		spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			RunAsUser: new(int64(0)), Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}},
		}
	}))
	var pod *corev1.Pod
	require.Eventually(t, func() bool {
		var err error
		pod, err = g.origin.CoreV1().Pods("user").Get(t.Context(), "p", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodFailed
	}, chainPatient, 10*time.Millisecond)
	assert.Equal(t, "Refused", pod.Status.Reason)
	var event string
	require.Eventually(t, func() bool {
		select {
		case event = <-g.recorder.Events:
		default:
		}
		return strings.HasPrefix(event, "Warning Refused")
	}, chainPatient, time.Millisecond)
	for _, text := range []string{pod.Status.Message, event} {
		for _, want := range []string{
			`spec.hostNetwork = "true": an offloaded pod cannot use the node's namespaces; remove the field`,
			`spec.volumes[home].persistentVolumeClaim = "data": names storage of the origin cluster`, "ask the site to map it (policy.volumes)",
			`ports[80].hostPort = "80"`, "remove hostPort",
			`securityContext.runAsUser = "0": the site refuses this setting (policy.security[0]); remove it or choose another value`,
			`capabilities.add = "SYS_ADMIN": the site refuses this capability (policy.refusedCapabilities); remove it`,
		} {
			assert.Contains(t, text, want)
		}
	}
	left, err := g.target.CoreV1().Pods("cms").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, left.Items)
}

// TestPolicyKnowsTheOriginsClaims makes a claim by what the virtual kubelet reads of the origin's, and mounts it.
func TestPolicyKnowsTheOriginsClaims(t *testing.T) {
	t.Parallel()
	g := govern(t, translate.Policy{Volumes: []translate.VolumeRule{{
		Match: translate.VolumeMatch{Kind: "persistentVolumeClaim", StorageClass: "ceph-*"},
		Claim: &translate.ClaimRule{StorageClass: new("cinder")},
	}}}, policed(func(spec *corev1.PodSpec) { spec.Volumes = []corev1.Volume{claimed("data")} }), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: new("ceph-fs"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("7Gi")}},
		},
	})
	var pods *corev1.PodList
	require.Eventually(t, func() bool {
		var err error
		pods, err = g.target.CoreV1().Pods("cms").List(t.Context(), metav1.ListOptions{})
		return err == nil && len(pods.Items) == 1 && len(pods.Items[0].Spec.SchedulingGates) == 0
	}, chainPatient, 10*time.Millisecond)
	claims, err := g.target.CoreV1().PersistentVolumeClaims("cms").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, claims.Items, 1)
	claim := claims.Items[0]
	assert.Equal(t, "cinder", *claim.Spec.StorageClassName)
	assert.Equal(t, "7Gi", claim.Spec.Resources.Requests.Storage().String())
	assert.Equal(t, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, claim.Spec.AccessModes)
	assert.Equal(t, "af", claim.Annotations[interlink.AnnotationOriginCluster])
	assert.Equal(t, claim.Name, pods.Items[0].Spec.Volumes[0].PersistentVolumeClaim.ClaimName)
}
