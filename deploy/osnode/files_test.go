// SPDX-License-Identifier: Apache-2.0

package osnode_test

import (
	"encoding/json"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	osnode "github.com/cloudveneto/caas/deploy/osnode"
)

// documents are those of a file, without its comments.
func documents(t *testing.T, name string) []string {
	t.Helper()
	content, err := osnode.Read(name)
	require.NoError(t, err)
	return strings.Split(string(content), "\n---\n")
}

func TestEveryFileIsListed(t *testing.T) {
	t.Parallel()
	listed := append(append(osnode.CRDs(), osnode.Rules()...), osnode.OwnerLabels, osnode.Deployment)
	found, err := fs.Glob(osnode.Files(), "*.yaml")
	require.NoError(t, err)
	crds, err := fs.Glob(osnode.Files(), "crds/*.yaml")
	require.NoError(t, err)
	assert.ElementsMatch(t, listed, append(found, crds...))
	for _, name := range listed {
		for _, document := range documents(t, name) {
			var object map[string]any
			require.NoError(t, yaml.UnmarshalStrict([]byte(document), &object), name)
		}
	}
	_, err = osnode.Read("other.yaml")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// The controller holds the keys to users' projects: it runs as nobody, on the control
// plane's hosts, and only one of its replicas acts.
func TestDeployment(t *testing.T) {
	t.Parallel()
	var deployment appsv1.Deployment
	for _, document := range documents(t, osnode.Deployment) {
		if strings.Contains(document, "kind: Deployment\n") {
			require.NoError(t, yaml.UnmarshalStrict([]byte(document), &deployment))
		}
	}
	pod := deployment.Spec.Template.Spec
	require.Len(t, pod.Containers, 1)
	container := pod.Containers[0]
	assert.EqualValues(t, 2, *deployment.Spec.Replicas)
	assert.Contains(t, container.Args, "--leader-elect")
	assert.Contains(t, pod.NodeSelector, "node-role.kubernetes.io/control-plane")
	assert.True(t, *pod.SecurityContext.RunAsNonRoot)
	assert.True(t, *container.SecurityContext.ReadOnlyRootFilesystem)
	assert.False(t, *container.SecurityContext.AllowPrivilegeEscalation)
	assert.Equal(t, "osnode-controller", pod.ServiceAccountName)
	assert.NotNil(t, container.LivenessProbe)
	assert.NotNil(t, container.ReadinessProbe)
	assert.Equal(t, deployment.Spec.Selector.MatchLabels, deployment.Spec.Template.Labels)
}

// The dashboard asks for metrics that exist.
func TestDashboard(t *testing.T) {
	t.Parallel()
	content, err := osnode.Read("dashboards/usage.json")
	require.NoError(t, err)
	var dashboard struct {
		UID    string `json:"uid"`
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	require.NoError(t, json.Unmarshal(content, &dashboard))
	assert.Equal(t, "osnode-usage", dashboard.UID)
	known := []string{
		"osn_usage_node_hours_total", "osn_usage_vcpu_hours_total", "osn_usage_memory_gib_hours_total", "osn_usage_gpu_hours_total",
		"osn_csr_decisions_total",
	}
	used := map[string]bool{}
	for _, panel := range dashboard.Panels {
		assert.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			for _, metric := range regexp.MustCompile(`osn_[a-z_]+`).FindAllString(target.Expr, -1) {
				assert.Contains(t, known, metric, panel.Title)
				used[metric] = true
			}
		}
	}
	assert.Len(t, used, len(known), "all that there is can be seen")
}
