// SPDX-License-Identifier: Apache-2.0

//go:build integration

package plugin_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

// gpuPod asks for one GPU, by its limit only.
func gpuPod(name string) *interlink.PluginPod {
	request := originPod(name)
	request.Pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
	return request
}

func ofGPUs(count string) func(*plugin.Settings) {
	return func(settings *plugin.Settings) {
		settings.Share = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse(count)}
	}
}

// TestShareIsKept sends many creates at once, of which the share has room for some. What is beyond it is not sent to the
// cluster, waits, and is created when there is room; a sidecar that comes later counts what is there.
func TestShareIsKept(t *testing.T) {
	t.Parallel()
	s := start(t, ofGPUs("5"))
	s.recorder.reset()
	requests := make([]*interlink.PluginPod, 20)
	var created atomic.Int32
	var group sync.WaitGroup
	waiting := make([]bool, len(requests))
	for i := range requests {
		requests[i] = gpuPod(fmt.Sprint("gpu-", i))
		group.Go(func() {
			code, body, header := s.call(http.MethodPost, interlink.PathCreate, requests[i], nil)
			if code == http.StatusOK {
				created.Add(1)
				return
			}
			waiting[i] = true
			assert.Equal(t, http.StatusServiceUnavailable, code)
			assert.Empty(t, header.Get(interlink.HeaderRefusal), "it waits")
			assert.Contains(t, body, "nvidia.com/gpu: requested 1, used 5, share 5")
		})
	}
	group.Wait()
	require.EqualValues(t, 5, created.Load(), "neither more nor fewer")
	assert.Len(t, s.recorder.requests("POST"), 5, "nothing else was sent")
	s.create(originPod("no-gpu"))
	assert.InDelta(t, 5, s.metric("caas_sidecar_share_used"), 0)
	assert.InDelta(t, 5, s.metric("caas_sidecar_share"), 0)

	second := startIn(t, s.admin, s.namespace, ofGPUs("5"))
	late := gpuPod("late")
	code, body, _ := second.call(http.MethodPost, interlink.PathCreate, late, nil)
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Contains(t, body, "share 5")
	code, body, _ = second.call(http.MethodPost, interlink.PathCreate, late, map[string]string{interlink.HeaderClient: "another"})
	assert.Equal(t, http.StatusOK, code, "another client has a share of its own: "+body)

	for i, request := range requests {
		if waiting[i] {
			continue
		}
		s.delete(&request.Pod)
		break
	}
	assert.Eventually(t, func() bool {
		code, _, _ := s.call(http.MethodPost, interlink.PathCreate, late, nil)
		return code == http.StatusOK
	}, 30*time.Second, 50*time.Millisecond, "there is room again")
	failed := strings.Join(s.recorder.requests("POST"), "\n")
	assert.Equal(t, 7, strings.Count(failed, "/pods"), failed)
}
