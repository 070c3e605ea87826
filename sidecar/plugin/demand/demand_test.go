// SPDX-License-Identifier: Apache-2.0

package demand_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudveneto/caas/sidecar/plugin/demand"
)

func cpu(text string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(text)}
}

func asks(requests, limits corev1.ResourceList) corev1.Container {
	return corev1.Container{Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func TestOf(t *testing.T) {
	t.Parallel()
	always := corev1.ContainerRestartPolicyAlways
	sidecar := asks(cpu("1"), nil)
	sidecar.RestartPolicy = &always
	for name, test := range map[string]struct {
		spec corev1.PodSpec
		want string
	}{
		"nothing":             {corev1.PodSpec{Containers: []corev1.Container{{}}}, "0"},
		"containers":          {corev1.PodSpec{Containers: []corev1.Container{asks(cpu("1"), cpu("4")), asks(cpu("500m"), nil)}}, "1500m"},
		"limits only":         {corev1.PodSpec{Containers: []corev1.Container{asks(nil, cpu("2"))}}, "2"},
		"a large init":        {corev1.PodSpec{InitContainers: []corev1.Container{asks(cpu("3"), nil)}, Containers: []corev1.Container{asks(cpu("1"), nil)}}, "3"},
		"a sidecar":           {corev1.PodSpec{InitContainers: []corev1.Container{sidecar}, Containers: []corev1.Container{asks(cpu("1"), nil)}}, "2"},
		"init after sidecar":  {corev1.PodSpec{InitContainers: []corev1.Container{sidecar, asks(cpu("3"), nil)}, Containers: []corev1.Container{asks(cpu("1"), nil)}}, "4"},
		"of the pod together": {corev1.PodSpec{Resources: &corev1.ResourceRequirements{Requests: cpu("5")}, Containers: []corev1.Container{asks(cpu("1"), nil)}}, "5"},
		"limit of the pod":    {corev1.PodSpec{Resources: &corev1.ResourceRequirements{Limits: cpu("5")}, Containers: []corev1.Container{{}}}, "5"},
		"overhead":            {corev1.PodSpec{Overhead: cpu("250m"), Containers: []corev1.Container{asks(cpu("1"), nil)}}, "1250m"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := demand.Of(&corev1.Pod{Spec: test.spec})
			want, have := resource.MustParse(test.want), got[corev1.ResourceCPU]
			assert.Zero(t, want.Cmp(have), have.String())
			assert.EqualValues(t, 1, got.Pods().Value())
		})
	}
}

func TestSubtractStopsAtZero(t *testing.T) {
	t.Parallel()
	room := cpu("1")
	demand.Subtract(room, corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1")})
	assert.True(t, room.Cpu().IsZero())
	assert.NotContains(t, room, corev1.ResourceMemory)
}

func TestSame(t *testing.T) {
	t.Parallel()
	always := corev1.ContainerRestartPolicyAlways
	of := func(change func(*corev1.PodSpec)) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{
			Containers: []corev1.Container{asks(cpu("1"), cpu("2"))}, InitContainers: []corev1.Container{asks(cpu("1"), nil)},
		}}
		change(&p.Spec)
		return p
	}
	same := of(func(s *corev1.PodSpec) { s.Containers[0].Resources.Requests = cpu("1000m"); s.NodeName = "a" })
	assert.True(t, demand.Same(of(func(*corev1.PodSpec) {}), same))
	for name, change := range map[string]func(*corev1.PodSpec){
		"requests": func(s *corev1.PodSpec) { s.Containers[0].Resources.Requests = cpu("3") },
		"limits":   func(s *corev1.PodSpec) { s.Containers[0].Resources.Limits = nil },
		"init":     func(s *corev1.PodSpec) { s.InitContainers = nil },
		"sidecar":  func(s *corev1.PodSpec) { s.InitContainers[0].RestartPolicy = &always },
		"overhead": func(s *corev1.PodSpec) { s.Overhead = cpu("1") },
		"together": func(s *corev1.PodSpec) { s.Resources = &corev1.ResourceRequirements{Requests: cpu("1")} },
	} {
		assert.False(t, demand.Same(same, of(change)), name)
	}
}
