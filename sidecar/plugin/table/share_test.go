// SPDX-License-Identifier: Apache-2.0

package table_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudveneto/caas/sidecar/plugin/demand"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

func list(cpu, pods string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourcePods: resource.MustParse(pods)}
}

// worker asks for one CPU.
func worker(uid string) *corev1.Pod {
	p := pod(uid, "r-"+uid, "vk1")
	p.Spec.Containers = []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
	}}}
	return p
}

func reserve(pods *table.Table, p *corev1.Pod, share corev1.ResourceList) []table.Shortage {
	return pods.Reserve(table.KeyOf(p), demand.Of(p), share, time.Now())
}

func TestShareFollowsPods(t *testing.T) {
	t.Parallel()
	pods, share := table.New(), list("2", "10")
	a, b, c := worker("a"), worker("b"), worker("c")
	pods.Observe(a)
	require.Empty(t, reserve(pods, b, share))
	short := reserve(pods, c, share)
	require.Len(t, short, 1)
	assert.Equal(t, corev1.ResourceCPU, short[0].Resource)
	assert.Equal(t, "2", short[0].Used.String())
	pods.Insert(b, time.Now())
	assert.Len(t, reserve(pods, c, share), 1, "counted once, whether reserved or held")
	assert.Empty(t, reserve(pods, b, list("1", "1")), "one that is there is counted already")

	ended := a.DeepCopy()
	ended.Status.Phase = corev1.PodSucceeded
	pods.Observe(ended)
	assert.Empty(t, reserve(pods, c, share), "one that ended takes nothing")
	pods.Release(table.KeyOf(c))
	pods.Remove(ended)
	pods.Remove(b)
	assert.Empty(t, pods.Used())

	stranger := worker("s")
	stranger.Labels["offload.infn.it/origin"] = "another"
	pods.Observe(stranger)
	require.Empty(t, reserve(pods, a, list("1", "1")), "another client's pods do not count")
	assert.Len(t, pods.Used(), 2)
}

func TestShareInDoubt(t *testing.T) {
	t.Parallel()
	pods, share, now := table.New(), list("1", "10"), time.Now()
	a, b := worker("a"), worker("b")
	ask := func(p *corev1.Pod, at time.Time) []table.Shortage {
		return pods.Reserve(table.KeyOf(p), demand.Of(p), share, at)
	}
	require.Empty(t, ask(a, now))
	pods.Doubt(table.KeyOf(a), now.Add(time.Minute))
	assert.Len(t, ask(b, now.Add(59*time.Second)), 1)
	assert.Empty(t, ask(a, now.Add(59*time.Second)), "its own next try is not in its way")
	pods.Doubt(table.KeyOf(a), now.Add(time.Minute))
	assert.Empty(t, ask(b, now.Add(time.Minute)))
}

func TestShareIsNeverExceeded(t *testing.T) {
	t.Parallel()
	pods, share := table.New(), list("100", "7")
	var taken atomic.Int32
	var creators sync.WaitGroup
	for i := range 64 {
		creators.Go(func() {
			p := worker(fmt.Sprint(i))
			if len(reserve(pods, p, share)) == 0 {
				taken.Add(1)
				pods.Insert(p, time.Now())
			}
		})
	}
	creators.Wait()
	assert.EqualValues(t, 7, taken.Load())
	assert.Equal(t, 7, pods.Len())
}
