// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

func TestSettingsReportAllProblems(t *testing.T) {
	t.Parallel()
	settings := plugin.Settings{
		Namespace: plugin.NamespaceRule{Mode: "nowhere"}, Selector: "a in b", MaxCreates: -1,
		TombstoneLife: metav1.Duration{Duration: time.Minute}, Policy: translate.Policy{Volumes: []translate.VolumeRule{{}}},
	}
	err := settings.Complete()
	for _, want := range []string{`namespace.mode: "nowhere"`, "selector", "maxCreates", "tombstoneLife", "policy.volumes[0]"} {
		assert.ErrorContains(t, err, want)
	}
}

func TestSettingsDefaults(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]plugin.NamespaceRule{
		"fixed": {Mode: plugin.NamespaceFixed, Fixed: "cms"},
		"map":   {Mode: plugin.NamespaceMap, Map: map[string]string{"a": "b"}},
		"same":  {Mode: plugin.NamespaceSame, Allowed: []string{"a"}},
	} {
		settings := plugin.Settings{Namespace: rule}
		assert.NoError(t, settings.Complete(), name)
		assert.EqualValues(t, 32<<20, settings.MaxCreateBytes)
		assert.Equal(t, []string{"accelerator"}, settings.Capacity.Labels)
	}
	for name, rule := range map[string]plugin.NamespaceRule{
		"fixed without name": {Mode: plugin.NamespaceFixed}, "empty map": {Mode: plugin.NamespaceMap},
		"bad target": {Mode: plugin.NamespaceMap, Map: map[string]string{"a": "B C"}},
	} {
		settings := plugin.Settings{Namespace: rule}
		assert.Error(t, settings.Complete(), name)
	}
}

func TestSettingsNameTheirPlace(t *testing.T) {
	t.Parallel()
	settings := plugin.Settings{
		Namespace: plugin.NamespaceRule{Mode: plugin.NamespaceFixed}, Selector: "a in b",
		Share:    corev1.ResourceList{"cpu": resource.MustParse("-1"), "requests.memory": resource.MustParse("1")},
		Policy:   translate.Policy{Volumes: []translate.VolumeRule{{}}},
		Capacity: plugin.CapacitySettings{Labels: []string{"accelerator", "a b", "topology.kubernetes.io/zone"}},
	}
	err := settings.CompleteFrom(func(section string) string { return "clients[af]." + section })
	for _, want := range []string{
		"clients[af].namespace.fixed", "clients[af].selector", "clients[af].policy.volumes[0]",
		`clients[af].capacity.labels[1]: "a b"`, `clients[af].capacity.labels[2]: "topology.kubernetes.io/zone": a virtual node has`,
		"clients[af].share: cpu: -1: must not be negative", "clients[af].share: requests.memory: is the name of a quota",
	} {
		assert.ErrorContains(t, err, want)
	}
}
