// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
	"github.com/cloudveneto/caas/sidecar/plugin/watch"
)

func node(name string, change func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Allocatable: corev1.ResourceList{
				"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("10"), "nvidia.com/mig": resource.MustParse("2"),
			},
		},
	}
	if change != nil {
		change(n)
	}
	return n
}

// pod asks for one CPU and 1Gi on node a.
func pod(name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "cms", UID: types.UID(name), Labels: labels},
		Spec: corev1.PodSpec{NodeName: "a", Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")},
		}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

func created(uid, origin string) *corev1.Pod {
	return pod("p-"+uid, map[string]string{
		translate.LabelManagedBy: translate.ManagedBy, translate.LabelUID: uid, translate.LabelOrigin: origin,
	})
}

// run starts a watcher that may do what allowed says.
func run(t *testing.T, capacity watch.CapacityConfig, allowed func(*authorizationv1.ResourceAttributes) bool, objects ...runtime.Object) (*watch.Watcher, *fake.Clientset) {
	t.Helper()
	return runFor(t, watch.Config{Capacity: capacity}, allowed, objects...)
}

// runFor starts a watcher for some clients only.
func runFor(t *testing.T, config watch.Config, allowed func(*authorizationv1.ResourceAttributes) bool, objects ...runtime.Object) (*watch.Watcher, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(objects...)
	client.PrependReactor("list", "pods", listPods(client))
	client.PrependReactor("create", "selfsubjectaccessreviews", func(action ktesting.Action) (bool, runtime.Object, error) {
		review := action.(ktesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
		review.Status.Allowed = allowed(review.Spec.ResourceAttributes)
		return true, review, nil
	})
	config.Client, config.Table, config.Namespaces = client, table.New(), []string{"cms"}
	w, err := watch.New(config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, w.Run(ctx)) })
	t.Cleanup(func() { cancel(); running.Wait() })
	require.Eventually(t, w.Synced, 10*time.Second, 5*time.Millisecond)
	return w, client
}

// listPods selects by fields too, as an API server does.
func listPods(client *fake.Clientset) ktesting.ReactionFunc {
	return func(action ktesting.Action) (bool, runtime.Object, error) {
		kind := corev1.SchemeGroupVersion.WithKind("Pod")
		all, err := client.Tracker().List(action.GetResource(), kind, action.GetNamespace())
		if err != nil {
			return true, nil, err
		}
		wanted := action.(ktesting.ListAction).GetListRestrictions()
		found := &corev1.PodList{ListMeta: all.(*corev1.PodList).ListMeta}
		for _, pod := range all.(*corev1.PodList).Items {
			if wanted.Labels.Matches(labels.Set(pod.Labels)) && wanted.Fields.Matches(fields.Set{
				"metadata.namespace": pod.Namespace, "spec.nodeName": pod.Spec.NodeName, "status.phase": string(pod.Status.Phase),
			}) {
				found.Items = append(found.Items, pod)
			}
		}
		return true, found, nil
	}
}

func everything(*authorizationv1.ResourceAttributes) bool { return true }

// settles waits until the capacity is what it should be.
func settles(t *testing.T, w *watch.Watcher, origin string, want *interlink.PingResources) {
	t.Helper()
	if !assert.Eventually(t, func() bool {
		return assert.ObjectsAreEqual(want, w.Capacity(table.Selection{Origin: origin}))
	}, 5*time.Second, 10*time.Millisecond) {
		assert.Equal(t, want, w.Capacity(table.Selection{Origin: origin}))
	}
}

func gpus(name, count string) []interlink.PingAccelerator {
	return []interlink.PingAccelerator{{ResourceType: name, Available: count}}
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	finished := pod("finished", nil)
	finished.Spec.NodeName = ""
	w, client := run(t, watch.CapacityConfig{
		NodeSelector: "!other", Tolerations: []corev1.Toleration{{Key: "pool", Operator: corev1.TolerationOpExists}},
		Names: map[corev1.ResourceName]corev1.ResourceName{"nvidia.com/mig": "nvidia.com/gpu"},
	}, everything,
		node("a", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "pool", Value: "x", Effect: corev1.TaintEffectNoSchedule}}
		}),
		node("not-ready", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }),
		node("cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }),
		node("control-plane", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}
		}),
		node("other", func(n *corev1.Node) { n.Labels = map[string]string{"other": "x"} }),
		pod("foreign", nil), created("u1", "alice"), created("u2", "bob"),
	)
	// Four CPUs, less the foreign pod and the other client's; one's own are the origin scheduler's business.
	settles(t, w, "alice", &interlink.PingResources{CPU: "2", Memory: "6Gi", Pods: "8", Accelerators: gpus("nvidia.com/gpu", "2")})
	settles(t, w, "carol", &interlink.PingResources{CPU: "1", Memory: "5Gi", Pods: "7", Accelerators: gpus("nvidia.com/gpu", "2")})

	changed, stop := w.Changed()
	defer stop()
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "cms", UID: "q"},
		Status: corev1.ResourceQuotaStatus{
			Hard: corev1.ResourceList{"requests.cpu": resource.MustParse("3"), "pods": resource.MustParse("100")},
			Used: corev1.ResourceList{"requests.cpu": resource.MustParse("3"), "pods": resource.MustParse("3")},
		},
	}
	_, err := client.CoreV1().ResourceQuotas("cms").Create(t.Context(), quota, metav1.CreateOptions{})
	require.NoError(t, err)
	limit, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	select {
	case <-changed:
	case <-limit.Done():
		assert.Fail(t, "nobody was told")
	}
	settles(t, w, "alice", &interlink.PingResources{CPU: "1", Memory: "6Gi", Pods: "8", Accelerators: gpus("nvidia.com/gpu", "2")})
}

func TestCapacityIsNeverZero(t *testing.T) {
	t.Parallel()
	full := pod("full", nil)
	full.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("4")
	w, _ := run(t, watch.CapacityConfig{}, everything, node("a", nil), full)
	settles(t, w, "x", &interlink.PingResources{Memory: "7Gi", Pods: "9", Accelerators: gpus("nvidia.com/mig", "2")})
}

func TestCapacityWithoutRights(t *testing.T) {
	t.Parallel()
	w, _ := run(t, watch.CapacityConfig{Static: corev1.ResourceList{"cpu": resource.MustParse("7")}},
		func(a *authorizationv1.ResourceAttributes) bool { return a.Resource != "nodes" }, node("a", nil))
	assert.Equal(t, &interlink.PingResources{CPU: "7"}, w.Capacity(table.Selection{}))
}

func TestProbe(t *testing.T) {
	t.Parallel()
	allowed := true
	review := func(action ktesting.Action) (bool, runtime.Object, error) {
		r := action.(ktesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
		r.Status.Allowed = allowed
		return true, r, nil
	}
	for name, test := range map[string]struct {
		objects []runtime.Object
		allowed bool
		want    string
	}{
		"usable":   {[]runtime.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}}}, true, ""},
		"no right": {[]runtime.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}}}, false, "may not create pods"},
		"no place": {nil, true, `no namespace "cms"`},
		"terminating": {[]runtime.Object{&corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: "cms"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating},
		}}, true, "being terminated"},
	} {
		client := fake.NewClientset(test.objects...)
		client.PrependReactor("create", "selfsubjectaccessreviews", review)
		allowed = test.allowed
		probe := watch.NewProbe(client, []string{"cms"})
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				err := probe.Usable(t.Context())
				if test.want == "" {
					assert.NoError(t, err, name)
				} else {
					assert.ErrorContains(t, err, test.want, name)
				}
			})
		}
		group.Wait()
		assert.LessOrEqual(t, len(client.Actions()), 2, "many callers, one check")
	}
}

// A virtual node that was given up asks every second, and is back with the first good answer.
func TestProbeForgetsFailuresSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, failing := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}}), true
		client.PrependReactor("get", "namespaces", func(ktesting.Action) (bool, runtime.Object, error) {
			return failing, nil, context.DeadlineExceeded
		})
		client.PrependReactor("create", "selfsubjectaccessreviews", func(action ktesting.Action) (bool, runtime.Object, error) {
			review := action.(ktesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
			review.Status.Allowed = true
			return true, review, nil
		})
		probe := watch.NewProbe(client, []string{"cms"})
		require.ErrorContains(t, probe.Usable(t.Context()), "does not answer")
		failing = false
		require.Error(t, probe.Usable(t.Context()), "callers at the same moment share one answer")
		time.Sleep(time.Second)
		require.NoError(t, probe.Usable(t.Context()))
		failing = true
		time.Sleep(4 * time.Second)
		require.NoError(t, probe.Usable(t.Context()), "a good answer counts for some seconds")
		time.Sleep(2 * time.Second)
		require.Error(t, probe.Usable(t.Context()))
	})
}

// One namespace that is on its way out says nothing of the others.
func TestProbeOfSeveralNamespaces(t *testing.T) {
	t.Parallel()
	doomed := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "doomed"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}
	client := fake.NewClientset(doomed, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}})
	client.PrependReactor("create", "selfsubjectaccessreviews", func(action ktesting.Action) (bool, runtime.Object, error) {
		review := action.(ktesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
		review.Status.Allowed = true
		return true, review, nil
	})
	require.NoError(t, watch.NewProbe(client, []string{"doomed", "cms"}).Usable(t.Context()))
	require.ErrorContains(t, watch.NewProbe(client, []string{"doomed", "none"}).Usable(t.Context()), "being terminated")
}

// A pod that asks for what a node does not name is never bound to it, so all of it is named.
func TestCapacityNamesStorageAndHugePages(t *testing.T) {
	t.Parallel()
	w, _ := run(t, watch.CapacityConfig{}, everything, node("a", func(n *corev1.Node) {
		n.Status.Allocatable["ephemeral-storage"] = resource.MustParse("100Gi")
		n.Status.Allocatable["hugepages-2Mi"] = resource.MustParse("64Mi")
		n.Status.Allocatable["hugepages-1Gi"] = resource.MustParse("0")
	}))
	settles(t, w, "alice", &interlink.PingResources{CPU: "4", Memory: "8Gi", Pods: "10", Accelerators: []interlink.PingAccelerator{
		{ResourceType: "ephemeral-storage", Available: "107374182400"},
		{ResourceType: "hugepages-2Mi", Available: "67108864"},
		{ResourceType: "nvidia.com/mig", Available: "2"},
	}})
}
