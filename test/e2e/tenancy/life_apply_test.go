// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func appliesOnServer(t *testing.T, me person) {
	name := unique("life-applied")
	red, blue := lifeFile(t, "applied.yaml", "NAME", name, "COLOR", "red"), lifeFile(t, "applied.yaml", "NAME", name, "COLOR", "blue")
	color := func() string {
		return me.kubectl(t, "get", "configmap", name, "-o", `jsonpath={.data.color} {.metadata.labels.osn\.infn\.it/userid}`)
	}
	me.removesAtLast(t, "configmap", name)
	assert.Contains(t, me.kubectl(t, "apply", "--server-side", "-f", red), "serverside-applied")
	assert.Equal(t, "red "+me.id, color())
	me.kubectl(t, "apply", "--server-side", "-f", red)
	assert.Equal(t, "red "+me.id, color(), "what admission wrote is no conflict")

	out, err := me.tries(t, "apply", "--server-side", "--field-manager=another", "-f", blue)
	require.Error(t, err)
	assert.Contains(t, out, `conflict with "kubectl"`)
	assert.Contains(t, out, ".data.color")
	assert.Equal(t, "red "+me.id, color())
	me.kubectl(t, "apply", "--server-side", "--field-manager=another", "--force-conflicts", "-f", blue)
	assert.Equal(t, "blue "+me.id, color())
	managers := me.kubectl(t, "get", "configmap", name, "--show-managed-fields", "-o", `jsonpath={range .metadata.managedFields[*]}{.manager}:{.operation} {end}`)
	assert.Contains(t, managers, "another:Apply")
	out, err = me.tries(t, "apply", "--server-side", "-f", red)
	require.Error(t, err, "now the first one has the conflict")
	assert.Contains(t, out, `conflict with "another"`)

	// Of workloads too, whose templates admission changes.
	deployment := unique("life-applied")
	file := lifeFile(t, "deployment.yaml", "NAME", deployment)
	me.removesAtLast(t, "-f", file)
	for range 2 {
		assert.Contains(t, me.kubectl(t, "apply", "--server-side", "-f", file), "serverside-applied")
	}
	// It reads what there is, and then asks what applying makes of it: the status between the two has to stay.
	me.kubectl(t, "rollout", "status", "deployment/"+deployment)
	assert.Empty(t, me.kubectl(t, "diff", "--server-side", "-f", file))
	assert.Equal(t, []string{aliceNode, aliceNode}, me.where(t, "app="+deployment, 2))
	me.kubectl(t, "delete", "-f", file)
}

// prunes applies less than before: what is not in the file any more goes, and nothing else that is hers or Bob's.
func prunes(t *testing.T, me person) {
	name := unique("life-prune")
	both := me.has(t, "prune.yaml", "NAME", name)
	content, err := os.ReadFile(both)
	require.NoError(t, err)
	kept, _, found := strings.Cut(string(content), "---")
	require.True(t, found)
	other := name + "-of-bob"
	me.bob.creates(t, "v1/configmaps", "{metadata: {name: "+other+", labels: {set: "+name+"}, annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}}, data: {of: "+me.marker+"}}")
	out := me.kubectl(t, "apply", "--prune", "-l", "set="+name, "--prune-allowlist=core/v1/ConfigMap", "-f", writeFile(t, kept))
	assert.Contains(t, out, "configmap/"+name+"-dropped pruned")
	assert.NotContains(t, out, other)
	assert.Equal(t, []string{"configmap/" + name + "-kept"}, me.lists(t, "get", "configmaps", "-l", "set="+name, "-o", "name"))
	me.bob.gets(t, "v1/configmaps/"+other)
	me.bob.removes(t, "v1/configmaps/"+other)
}
