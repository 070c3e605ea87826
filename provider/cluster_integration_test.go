// SPDX-License-Identifier: Apache-2.0

//go:build integration

package provider_test

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/providertest"
	"github.com/cloudveneto/caas/provider/settings"
)

func TestClusterNode(t *testing.T) {
	s := newSite(t, "node-a", providertest.Options{Extensions: providertest.All(), AutoRun: true})
	s.up()
	node, err := s.admin.CoreV1().Nodes().Get(t.Context(), s.name, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "virtual-kubelet", node.Labels["virtual-node.interlink/type"])
	assert.NotContains(t, node.Labels, "kubernetes.io/role", "a node may not give itself this label")
	assert.Equal(t, corev1.ConditionFalse, condition(node, corev1.NodeMemoryPressure))
	assert.Equal(t, settings.TaintKey, node.Spec.Taints[0].Key)
	s.until("the lease", func() bool {
		lease, err := s.admin.CoordinationV1().Leases("kube-node-lease").Get(t.Context(), s.name, metav1.GetOptions{})
		return err == nil && *lease.Spec.LeaseDurationSeconds == 40
	})
	s.far.Tell(interlink.StatusEvent{Type: interlink.EventNode, Node: &interlink.PingResponse{
		Resources: &interlink.PingResources{CPU: "7", Accelerators: []interlink.PingAccelerator{{ResourceType: "nvidia.com/gpu", Available: "2"}}},
	}})
	s.until("resources follow", func() bool {
		node, err := s.admin.CoreV1().Nodes().Get(t.Context(), s.name, metav1.GetOptions{})
		gpus := node.Status.Allocatable["nvidia.com/gpu"]
		return err == nil && node.Status.Allocatable.Cpu().Value() == 7 && gpus.Value() == 2
	})
}

func TestClusterPodLife(t *testing.T) {
	s := newSite(t, "node-b", providertest.Options{Extensions: providertest.All(), HoldDeletes: true})
	s.up()
	uid := s.run("a")
	s.until("held", func() bool { return len(s.far.Held()) == 1 })
	s.far.Run(uid)
	pod := s.untilPhase("a", corev1.PodRunning)
	assert.Equal(t, "10.1.2.3", pod.Status.PodIP)
	var stream io.ReadCloser
	s.until("logs, once the certificate is there", func() bool {
		var err error
		stream, err = s.admin.CoreV1().Pods(s.namespace).GetLogs("a", &corev1.PodLogOptions{TailLines: new(int64(5))}).Stream(t.Context())
		return err == nil
	})
	text, err := io.ReadAll(stream)
	require.NoError(t, err)
	assert.Equal(t, "log of a/main tail=5\n", string(text))
	request := providertest.Decode[interlink.CreateRequest](t, s.far.Requests(interlink.PathCreate)[0])
	require.Len(t, request.ProjectedVolumes, 1, "the token volume that admission adds")
	assert.NotEmpty(t, request.ProjectedVolumes[0].Data["token"])
	assert.Contains(t, request.ProjectedVolumes[0].Data["ca.crt"], "BEGIN CERTIFICATE")
	assert.Equal(t, s.namespace, request.ProjectedVolumes[0].Data["namespace"])

	begun := time.Now()
	require.NoError(t, s.admin.CoreV1().Pods(s.namespace).Delete(t.Context(), "a", metav1.DeleteOptions{}))
	s.until("delete sent", func() bool { return len(s.far.Requests(interlink.PathDelete)) == 1 })
	require.NotNil(t, s.pod("a"))
	s.far.Release(uid, 0)
	s.until("gone", func() bool { return s.pod("a") == nil })
	assert.Less(t, time.Since(begun), 20*time.Second, "the grace period of 30 s is not waited for")
}

func TestClusterJobs(t *testing.T) {
	for name, options := range map[string]providertest.Options{
		"node-ours": {Extensions: providertest.All(), AutoRun: true}, "node-upstream": {AutoRun: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, name, options)
			s.up()
			jobs := s.admin.BatchV1().Jobs(s.namespace)
			for _, job := range []string{"good", "bad"} {
				_, err := jobs.Create(t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: job}, Spec: batchv1.JobSpec{
					BackoffLimit: new(int32(0)), Template: corev1.PodTemplateSpec{Spec: s.template()},
				}}, metav1.CreateOptions{})
				require.NoError(t, err)
			}
			s.until("both run", func() bool { return len(s.far.Held()) == 2 })
			for _, uid := range s.far.Held() {
				pod, _ := s.far.Created(uid)
				s.until("running", func() bool { return s.pod(pod.Name).Status.Phase == corev1.PodRunning })
				code := int32(0)
				if pod.Labels["job-name"] == "bad" {
					code = 137
				}
				s.far.Finish(uid, code)
			}
			s.until("the jobs know", func() bool {
				good, err := jobs.Get(t.Context(), "good", metav1.GetOptions{})
				require.NoError(t, err)
				bad, err := jobs.Get(t.Context(), "bad", metav1.GetOptions{})
				require.NoError(t, err)
				return good.Status.Succeeded == 1 && bad.Status.Failed == 1
			})
			policy := metav1.DeletePropagationForeground
			require.NoError(t, jobs.Delete(t.Context(), "good", metav1.DeleteOptions{PropagationPolicy: &policy}))
			s.until("its pod is gone at the far end", func() bool { return len(s.far.Held()) == 1 })
		})
	}
}

func TestClusterRestartAndReplacement(t *testing.T) {
	s := newSite(t, "node-c", providertest.Options{Extensions: providertest.All(), AutoRun: true})
	s.up()
	sets := s.admin.AppsV1().StatefulSets(s.namespace)
	_, err := sets.Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.StatefulSetSpec{
		ServiceName: "web", Replicas: new(int32(1)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
			Spec:       s.template(func(spec *corev1.PodSpec) { spec.RestartPolicy = corev1.RestartPolicyAlways }),
		},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	s.untilPhase("web-0", corev1.PodRunning)
	first := s.pod("web-0").UID
	require.NoError(t, s.admin.CoreV1().Pods(s.namespace).Delete(t.Context(), "web-0", metav1.DeleteOptions{}))
	s.until("replaced", func() bool {
		pod := s.pod("web-0")
		return pod != nil && pod.UID != first && pod.Status.Phase == corev1.PodRunning
	})
	second := s.pod("web-0").UID
	assert.Equal(t, []types.UID{second}, s.far.Held())
	s.stop()
	require.NoError(t, s.admin.CoreV1().Pods(s.namespace).Delete(t.Context(), "web-0", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	s.until("replaced while nobody looks", func() bool { pod := s.pod("web-0"); return pod != nil && pod.UID != second })
	s.up()
	s.untilPhase("web-0", corev1.PodRunning)
	third := s.pod("web-0").UID
	s.until("only the third is held", func() bool { held := s.far.Held(); return len(held) == 1 && held[0] == third })
	_, times := s.far.Created(third)
	assert.Equal(t, 1, times)
}

// TestClusterClaims tells the far end of claims with the rights of a node, who learns of a pod before the Node authorizer
// does, and with those of deploy/virtual-kubelet.
func TestClusterClaims(t *testing.T) {
	s := newSite(t, "node-claims", providertest.Options{Extensions: append(providertest.All(), interlink.ExtensionClaims), AutoRun: true})
	s.claims("a")
	s.identity = s.serviceAccount()
	s.claims("b")
}

// claims starts the virtual kubelet, and looks at what it sends along with a pod.
func (s *site) claims(name string) {
	s.t.Helper()
	_, err := s.admin.CoreV1().PersistentVolumeClaims(s.namespace).Create(s.t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: new("ceph"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("5Gi")}},
		},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	s.up()
	s.run(name, func(spec *corev1.PodSpec) {
		spec.NodeName = s.name // the scheduler would wait for the claim to be bound
		spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
		}}}
	})
	s.untilPhase(name, corev1.PodRunning)
	requests := s.far.Requests(interlink.PathCreate)
	assert.Equal(s.t, []interlink.Claim{{
		Name: name, StorageClass: "ceph", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
		VolumeMode: corev1.PersistentVolumeFilesystem, Size: new(resource.MustParse("5Gi")),
	}}, providertest.Decode[interlink.CreateRequest](s.t, requests[len(requests)-1]).Claims)
	s.stop()
}

// TestClusterServiceAccount runs with the rights of deploy/virtual-kubelet, and
// no others.
func TestClusterServiceAccount(t *testing.T) {
	s := newSite(t, "node-e", providertest.Options{AutoRun: true})
	s.identity = s.serviceAccount()
	s.up()
	node, err := s.admin.CoreV1().Nodes().Get(t.Context(), s.name, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "agent", node.Labels["kubernetes.io/role"])
	s.run("a")
	s.untilPhase("a", corev1.PodRunning)
	s.until("the job id is kept", func() bool { return s.pod("a").Annotations[interlink.AnnotationJobID] != "" })
	require.NoError(t, s.admin.CoreV1().Pods(s.namespace).Delete(t.Context(), "a", metav1.DeleteOptions{}))
	s.until("gone", func() bool { return s.pod("a") == nil && len(s.far.Held()) == 0 })
}

// serviceAccount makes the ServiceAccount of deploy/virtual-kubelet with its rights, and returns its identity.
func (s *site) serviceAccount() *rest.Config {
	s.t.Helper()
	manifests, err := os.ReadFile("../deploy/virtual-kubelet/rbac.yaml")
	require.NoError(s.t, err)
	for manifest := range strings.SplitSeq(string(manifests), "\n---\n") {
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode([]byte(manifest), nil, nil)
		require.NoError(s.t, err)
		s.apply(object)
	}
	identity := s.cluster.RESTConfig()
	identity.Impersonate = rest.ImpersonationConfig{
		UserName: account, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:interlink", "system:authenticated"},
	}
	return identity
}

func TestClusterBurst(t *testing.T) {
	const count = 100
	s := newSite(t, "node-d", providertest.Options{Extensions: providertest.All(), AutoRun: true})
	s.silence = time.Minute // no pod takes longer to run, so that the number of requests does not depend on how fast they are
	s.up()
	// Bound by hand: the scheduler's own rate limit is slower than the node.
	bound := func(spec *corev1.PodSpec) { spec.NodeName = s.name }
	begun := time.Now()
	first := begun
	var creating errgroup.Group
	creating.SetLimit(16)
	for i := range count {
		creating.Go(func() error {
			_, err := s.admin.CoreV1().Pods(s.namespace).Create(t.Context(),
				&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i)}, Spec: s.template(bound)}, metav1.CreateOptions{})
			return err
		})
	}
	require.NoError(t, creating.Wait())
	created := time.Since(begun)
	pods := func() []corev1.Pod {
		list, err := s.admin.CoreV1().Pods(s.namespace).List(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
		require.NoError(t, err)
		return list.Items
	}
	s.until("all run", func() bool {
		list := pods()
		return len(list) == count && !slices.ContainsFunc(list, func(p corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning })
	})
	t.Logf("%d pods created after %s, all running after %s", count, created, time.Since(begun))
	begun = time.Now()
	require.NoError(t, s.admin.CoreV1().Pods(s.namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	deleted := time.Since(begun)
	s.until("all are gone at both ends", func() bool { return len(pods()) == 0 && len(s.far.Held()) == 0 })
	t.Logf("%d pods deleted after %s, all gone after %s", count, deleted, time.Since(begun))
	assert.Len(t, s.far.Requests(interlink.PathCreate), count)
	requests := s.counted()
	t.Logf("requests to the origin: %v", requests)
	// The Node authorizer learns of a pod a little later than its node does, so
	// that some reads are refused at first.
	assert.Less(t, requests["POST serviceaccounts/token"], 2*count)
	assert.Equal(t, count, requests["DELETE pods"])
	// What the origin has not confirmed after five seconds is said again.
	again := count * int(time.Since(first)/(5*time.Second))
	assert.LessOrEqual(t, requests["PATCH pods/status"], 2*count+10+again, "one to say that it runs, one to say how it ended")
	assert.Zero(t, requests["GET pods"])
	assert.Zero(t, requests["POST events"])
	assert.LessOrEqual(t, requests["GET configmaps"], count/10, "shared objects are read once")
}
