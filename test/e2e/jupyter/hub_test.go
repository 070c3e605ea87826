// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package jupyter_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/examples/jupyter"
)

// hub is what KubeSpawner makes of the pod and its Events.
type hub struct {
	mu sync.Mutex
	// dead is why the hub would have given the server up while nobody had deleted it.
	dead []string
}

// watchAsHub follows the pod until the test ends.
func (w *world) watchAsHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{}
	factory := informers.NewSharedInformerFactoryWithOptions(w.af, 0, informers.WithNamespace(jupyter.Namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, jupyter.Pod).String()
		}))
	registration, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: h.poll, UpdateFunc: func(_, pod any) { h.poll(pod) },
	})
	require.NoError(t, err)
	stop := make(chan struct{})
	factory.Start(stop)
	t.Cleanup(func() { close(stop); factory.Shutdown() })
	require.True(t, cache.WaitForCacheSync(t.Context().Done(), registration.HasSynced))
	return h
}

// poll judges the server's life as KubeSpawner's method of this name does: Pending is alive, anything else without statuses
// is dead, and so is one whose notebook's container has ended.
func (h *hub) poll(object any) {
	pod, ok := object.(*corev1.Pod)
	if !ok || pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodPending {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(pod.Status.ContainerStatuses) == 0 {
		h.dead = append(h.dead, fmt.Sprintf("%s without statuses", pod.Status.Phase))
	}
	for i := range pod.Status.ContainerStatuses {
		if status := &pod.Status.ContainerStatuses[i]; status.Name == jupyter.Notebook && status.State.Terminated != nil {
			h.dead = append(h.dead, fmt.Sprintf("ended: %+v", status.State.Terminated))
		}
	}
}

func (h *hub) givenUp() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.dead)
}

// running is KubeSpawner's is_pod_running.
func running(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && pod.Status.PodIP != "" && pod.DeletionTimestamp == nil && len(pod.Status.ContainerStatuses) > 0 &&
		!slices.ContainsFunc(pod.Status.ContainerStatuses, func(status corev1.ContainerStatus) bool { return !status.Ready })
}

// event is an Event as the hub reads it: JSON, of which it wants these keys to be there.
type event struct {
	Type     string                 `json:"type"`
	Reason   string                 `json:"reason"`
	Message  string                 `json:"message"`
	Last     *string                `json:"lastTimestamp"`
	Time     *string                `json:"eventTime"`
	Source   map[string]any         `json:"source"`
	Involved corev1.ObjectReference `json:"involvedObject"`
}

// time is what the hub sorts by and shows: lastTimestamp or eventTime.
func (e *event) time() string {
	for _, one := range []*string{e.Last, e.Time} {
		if one != nil && *one != "" {
			return *one
		}
	}
	return ""
}

// events are those that the hub shows while the server starts, in its order.
func (w *world) events(t *testing.T) []event {
	t.Helper()
	body, err := w.af.CoreV1().RESTClient().Get().Namespace(jupyter.Namespace).Resource("events").
		Param("fieldSelector", "involvedObject.kind=Pod,involvedObject.name="+jupyter.Pod).DoRaw(t.Context())
	require.NoError(t, err)
	var list struct {
		Items []event `json:"items"`
	}
	require.NoError(t, json.Unmarshal(body, &list))
	slices.SortStableFunc(list.Items, func(a, b event) int { return strings.Compare(a.time(), b.time()) })
	return list.Items
}
