// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package dask_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// record is what a watch saw of some pods.
type record struct {
	synced cache.InformerSynced

	mu   sync.Mutex
	pods map[types.UID]*life
}

// life is that of one pod.
type life struct {
	name   string
	labels map[string]string
	ip     string
	// nanny tells that the worker has one, which may start it again without an end of the container.
	nanny bool
	// restarts is how often its containers have started again.
	restarts int32
	// running is when it was first seen Running.
	running time.Time
	// phases are those it was in while nobody had deleted it, in their order.
	phases []corev1.PodPhase
	// gone tells that it is no more.
	gone bool
}

// watch records the lives of the pods that selector selects, until the test ends.
func watch(t *testing.T, client kubernetes.Interface, namespace, selector string) *record {
	t.Helper()
	r := &record{pods: map[types.UID]*life{}}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = selector }))
	registration, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: r.see, UpdateFunc: func(_, pod any) { r.see(pod) }, DeleteFunc: r.lose,
	})
	require.NoError(t, err)
	r.synced = registration.HasSynced
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	factory.Start(ctx.Done())
	t.Cleanup(func() { stop(); factory.Shutdown() })
	require.True(t, cache.WaitForCacheSync(t.Context().Done(), r.synced))
	return r
}

func (r *record) see(object any) {
	pod, isPod := object.(*corev1.Pod)
	if !isPod {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.pods[pod.UID]
	if one == nil {
		one = &life{name: pod.Name, labels: pod.Labels, nanny: !slices.Contains(pod.Spec.Containers[0].Args, noNanny)}
		r.pods[pod.UID] = one
	}
	if pod.Status.PodIP != "" {
		one.ip = pod.Status.PodIP
	}
	if pod.Status.Phase == corev1.PodRunning && one.running.IsZero() {
		one.running = time.Now()
	}
	for i := range pod.Status.ContainerStatuses {
		one.restarts = max(one.restarts, pod.Status.ContainerStatuses[i].RestartCount)
	}
	if pod.DeletionTimestamp == nil && (len(one.phases) == 0 || one.phases[len(one.phases)-1] != pod.Status.Phase) {
		one.phases = append(one.phases, pod.Status.Phase)
	}
}

func (r *record) lose(object any) {
	if last, unknown := object.(cache.DeletedFinalStateUnknown); unknown {
		object = last.Obj
	}
	pod, isPod := object.(*corev1.Pod)
	if !isPod {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if one := r.pods[pod.UID]; one != nil {
		one.gone = true
	}
}

// lives are copies of all that was seen.
func (r *record) lives() map[types.UID]life {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[types.UID]life, len(r.pods))
	for uid, one := range r.pods {
		all[uid] = *one
	}
	return all
}

// podOf is the name of the pod that a Deployment has made: all workers' Deployments have the same selector.
func (r *record) podOf(deployment string) string {
	for _, one := range r.lives() {
		if strings.HasPrefix(one.name, deployment+"-") {
			return one.name
		}
	}
	return "none-of-" + deployment
}

// lastRunning is when the last of them was first seen Running.
func (r *record) lastRunning() time.Time {
	var last time.Time
	for _, one := range r.lives() {
		if one.running.After(last) {
			last = one.running
		}
	}
	return last
}

// restarted counts the pods whose containers have started again.
func (r *record) restarted() int {
	count := 0
	for _, one := range r.lives() {
		if one.restarts > 0 {
			count++
		}
	}
	return count
}

// awaitAlive waits until so many pods are there.
func (r *record) awaitAlive(ctx context.Context, t *testing.T, where string, wanted int) time.Duration {
	t.Helper()
	started := time.Now()
	eventually(ctx, t, fmt.Sprintf("%d pods %s", wanted, where), func() (bool, string) {
		alive := 0
		for _, one := range r.lives() {
			if !one.gone {
				alive++
			}
		}
		return alive == wanted, fmt.Sprintf("%d pods", alive)
	})
	return time.Since(started)
}
