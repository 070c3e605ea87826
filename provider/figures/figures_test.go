// SPDX-License-Identifier: Apache-2.0

package figures_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/figures"
)

var epoch = time.Unix(1_700_000_000, 0)

// site is a far end, an origin and a clock.
type site struct {
	now     time.Time
	offered bool
	answer  interlink.StatsResponse
	err     error
	asked   int
	pods    []*corev1.Pod
}

func (s *site) Stats(_ context.Context, request interlink.WatchRequest) (interlink.StatsResponse, error) {
	s.asked++
	if request != (interlink.WatchRequest{Cluster: "c1", Node: "vk1"}) {
		return interlink.StatsResponse{}, errors.New("asked for something else")
	}
	return s.answer, s.err
}

func start(t *testing.T) (*site, *figures.Figures) {
	t.Helper()
	s := &site{now: epoch, offered: true, pods: []*corev1.Pod{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: "a", UID: "u"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}, {Name: "side"}}},
		Status: corev1.PodStatus{StartTime: new(metav1.NewTime(epoch.Add(-time.Hour))), ContainerStatuses: []corev1.ContainerStatus{
			{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(epoch.Add(-time.Hour))}}},
		}},
	}}}
	f, err := figures.New(figures.Config{
		Source: s, Offered: func() bool { return s.offered }, Cluster: "c1", Node: "vk1",
		Pods: func(context.Context) ([]*corev1.Pod, error) { return s.pods, nil },
		Now:  func() time.Time { return s.now },
	})
	require.NoError(t, err)
	return s, f
}

// measure is a sample of the pod at a time, and the clock a second later.
func (s *site) measure(second int, milliCores uint64) {
	s.now = epoch.Add(time.Duration(second+1) * time.Second)
	s.answer = interlink.StatsResponse{Available: true, Pods: []interlink.PodStats{
		{
			UID: "u", Time: metav1.NewMicroTime(epoch.Add(time.Duration(second) * time.Second)), Window: metav1.Duration{Duration: 15 * time.Second},
			Containers: []interlink.ContainerStats{
				{Name: "main", CPUNanoCores: milliCores * 1e6, MemoryBytes: 100},
				{Name: "side", CPUNanoCores: 0, MemoryBytes: 50},
				{Name: "injected", CPUNanoCores: 5e9, MemoryBytes: 5000},
			},
		},
		{UID: "foreign", Time: metav1.NewMicroTime(epoch), Containers: []interlink.ContainerStats{{Name: "main", MemoryBytes: 1}}},
	}}
}

// value finds a figure by its name and labels, as "name a b".
func value(t *testing.T, families []*dto.MetricFamily, name string, labels ...string) (value float64, at int64, found bool) {
	t.Helper()
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var values []string
			for _, label := range metric.GetLabel() {
				values = append(values, label.GetValue())
			}
			if family.GetName() == name && strings.Join(values, " ") == strings.Join(labels, " ") {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue(), metric.GetTimestampMs(), true
			}
		}
	}
	return 0, 0, false
}

func TestRatesComeBackFromTheCounters(t *testing.T) {
	t.Parallel()
	s, f := start(t)
	var before float64
	var then int64
	var nodeBefore float64
	for i, sample := range []struct {
		second int
		milli  uint64
	}{{0, 500}, {15, 250}, {60, 2000}, {75, 0}} {
		s.measure(sample.second, sample.milli)
		families, err := f.Resource(t.Context())
		require.NoError(t, err)
		seconds, at, found := value(t, families, "container_cpu_usage_seconds_total", "main", "user", "a")
		require.True(t, found)
		node, nodeAt, _ := value(t, families, "node_cpu_usage_seconds_total")
		assert.Equal(t, at, nodeAt)
		assert.Equal(t, epoch.Add(time.Duration(sample.second)*time.Second).UnixMilli(), at, "the sample's own time")
		if i > 0 {
			assert.InDelta(t, float64(sample.milli)/1000, (seconds-before)/(float64(at-then)/1000), 1e-9)
			assert.InDelta(t, seconds-before, node-nodeBefore, 1e-9, "the node's figures are its pods'")
		}
		before, then, nodeBefore = seconds, at, node
		pod, _, _ := value(t, families, "pod_cpu_usage_seconds_total", "user", "a")
		side, _, _ := value(t, families, "container_cpu_usage_seconds_total", "side", "user", "a")
		assert.InDelta(t, seconds+side, pod, 1e-9)
		assert.Positive(t, side, "readers take zero for: not measured")
		memory, _, _ := value(t, families, "pod_memory_working_set_bytes", "user", "a")
		assert.InDelta(t, 150, memory, 0, "without what the far end injected")
		begun, _, _ := value(t, families, "container_start_time_seconds", "main", "user", "a")
		assert.InDelta(t, float64(epoch.Add(-time.Hour).Unix()), begun, 0)
		_, _, foreign := value(t, families, "container_memory_working_set_bytes", "injected", "user", "a")
		assert.False(t, foreign)
	}
}

func TestTheSameSampleCountsOnce(t *testing.T) {
	t.Parallel()
	s, f := start(t)
	s.measure(0, 500)
	first, err := f.Resource(t.Context())
	require.NoError(t, err)
	asked := s.asked
	_, err = f.Resource(t.Context())
	require.NoError(t, err)
	assert.Equal(t, asked, s.asked, "readers share an answer")
	s.now = s.now.Add(time.Minute)
	second, err := f.Resource(t.Context())
	require.NoError(t, err)
	assert.Equal(t, asked+1, s.asked)
	a, _, _ := value(t, first, "container_cpu_usage_seconds_total", "main", "user", "a")
	b, _, _ := value(t, second, "container_cpu_usage_seconds_total", "main", "user", "a")
	assert.InDelta(t, a, b, 0)

	s.now = s.now.Add(10 * time.Minute)
	old, err := f.Resource(t.Context())
	require.NoError(t, err)
	_, _, found := value(t, old, "container_cpu_usage_seconds_total", "main", "user", "a")
	assert.False(t, found, "what is not measured any more is not told any more")
}

func TestYoungContainersUsedTheirRateSinceTheyStarted(t *testing.T) {
	t.Parallel()
	s, f := start(t)
	s.pods[0].Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(epoch.Add(-20 * time.Second))
	s.measure(0, 500)
	families, err := f.Resource(t.Context())
	require.NoError(t, err)
	seconds, _, _ := value(t, families, "container_cpu_usage_seconds_total", "main", "user", "a")
	assert.InDelta(t, 10, seconds, 0.01)
}

func TestNothingIsMadeUp(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		edit   func(*site)
		failed float64
		asked  int
	}{
		"not offered":     {func(s *site) { s.offered = false }, 0, 0},
		"not measured":    {func(s *site) { s.answer = interlink.StatsResponse{} }, 0, 1},
		"cannot be asked": {func(s *site) { s.err = errors.New("down") }, 1, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, f := start(t)
			c.edit(s)
			families, err := f.Resource(t.Context())
			require.NoError(t, err)
			require.Len(t, families, 1)
			failed, _, _ := value(t, families, "resource_scrape_error")
			assert.InDelta(t, c.failed, failed, 0)
			assert.Equal(t, c.asked, s.asked)
			if c.failed == 0 {
				summary, err := f.Summary(t.Context())
				require.NoError(t, err)
				assert.Empty(t, summary.Pods)
				assert.Nil(t, summary.Node.CPU)
				assert.Nil(t, summary.Node.Memory)
			}
		})
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	s, f := start(t)
	s.measure(0, 500)
	summary, err := f.Summary(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "vk1", summary.Node.NodeName)
	assert.Equal(t, uint64(5e8), *summary.Node.CPU.UsageNanoCores)
	assert.Equal(t, uint64(150), *summary.Node.Memory.WorkingSetBytes)
	require.Len(t, summary.Pods, 1)
	assert.Equal(t, "a", summary.Pods[0].PodRef.Name)
	assert.Equal(t, "u", summary.Pods[0].PodRef.UID)
	require.Len(t, summary.Pods[0].Containers, 2)
	assert.Equal(t, "main", summary.Pods[0].Containers[0].Name)
	assert.Equal(t, uint64(100), *summary.Pods[0].Containers[0].Memory.WorkingSetBytes)
	s.pods, s.now = nil, s.now.Add(time.Minute)
	summary, err = f.Summary(t.Context())
	require.NoError(t, err)
	assert.Empty(t, summary.Pods, "a pod that the origin does not have is not told")
}
