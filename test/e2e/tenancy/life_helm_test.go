// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// helm is Helm as one person uses it: with her kubeconfig, and files of its own.
type helm struct {
	person

	program, home string
}

func (h helm) tries(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return h.triesWithin(t.Context(), t, args...)
}

func (h helm) triesWithin(ctx context.Context, t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	args = append([]string{"--net=" + h.lab.NetNS(), h.program, "--kubeconfig=" + h.kubeconfig(t)}, args...)
	command := exec.CommandContext(ctx, "nsenter", args...)
	command.Env = append(os.Environ(), "HOME="+h.home, "HELM_CONFIG_HOME="+h.home, "HELM_CACHE_HOME="+h.home, "HELM_DATA_HOME="+h.home)
	out, err := command.CombinedOutput()
	h.keepsSecrets(t, "helm "+strings.Join(args, " "), out)
	return string(out), err
}

// does runs Helm, which has to succeed.
func (h helm) does(t *testing.T, args ...string) string {
	t.Helper()
	out, err := h.tries(t, args...)
	require.NoError(t, err, "%s: helm %v: %s", h.name, args, out)
	return out
}

// revisions are the states of a release's revisions, from the first one.
func (h helm) revisions(t *testing.T, release string) []string {
	t.Helper()
	var history []struct {
		Status string `json:"status"`
	}
	out := h.does(t, "history", release, "--output=json")
	require.NoError(t, json.Unmarshal([]byte(out), &history), "%s", out)
	var all []string
	for _, one := range history {
		all = append(all, one.Status)
	}
	return all
}

// chartKinds are all kinds that the chart's objects, and what controllers make of them, are of.
const chartKinds = "deployments,replicasets,pods,services,configmaps,secrets,serviceaccounts,horizontalpodautoscalers,ingresses,persistentvolumeclaims,jobs"

// charts installs, changes and removes a chart. Helm keeps what it knows of a release in Secrets, which are the user's.
func charts(t *testing.T, me person, program string) {
	name := unique("life-chart")
	me.storage(t, name, 1)
	chart, err := filepath.Abs(filepath.Join("testdata", "life", "chart"))
	require.NoError(t, err)
	mine, bobs := helm{me, program, t.TempDir()}, helm{me.bob.proxied(), program, t.TempDir()}
	t.Cleanup(func() {
		out, err := mine.triesWithin(context.Background(), t, "uninstall", name, "--ignore-not-found")
		assert.NoError(t, err, "%s", out)
	})
	set := "--set=storageClass=" + name + ",host=" + name + ".example.org"
	page := func() string { return me.page(t, "p-a", name) }

	out := mine.does(t, "install", name, chart, set, "--wait", "--timeout=85s")
	assert.Contains(t, out, "STATUS: deployed")
	assert.Contains(t, out, "the hook of revision 1")
	assert.Equal(t, "one secret-one\n", page())
	assert.Equal(t, []string{aliceNode}, me.where(t, "app.kubernetes.io/instance="+name, 1))
	assert.Equal(t, "Bound", me.kubectl(t, "get", "pvc", name, "-o", "jsonpath={.status.phase}"))
	assert.Equal(t, name, me.kubectl(t, "get", "pods", "-l", "app.kubernetes.io/instance="+name, "-o", "jsonpath={.items[0].spec.serviceAccountName}"))
	for _, kind := range []string{"deployment", "service", "configmap", "secret", "serviceaccount", "hpa", "ingress", "pvc"} {
		assert.Equal(t, me.id, me.kubectl(t, "get", kind, name, "-o", `jsonpath={.metadata.labels.osn\.infn\.it/userid}`), "%s", kind)
	}

	out = mine.does(t, "upgrade", name, chart, set, "--set=greeting=two,password=secret-two", "--wait", "--timeout=85s")
	assert.Contains(t, out, "the hook of revision 2")
	me.kubectl(t, "rollout", "status", "deployment/"+name)
	assert.Equal(t, "two secret-two\n", page())
	assert.Equal(t, []string{"superseded", "deployed"}, mine.revisions(t, name))
	assert.Contains(t, mine.does(t, "get", "values", name), "greeting: two")

	mine.does(t, "rollback", name, "1", "--wait", "--timeout=85s")
	me.kubectl(t, "rollout", "status", "deployment/"+name)
	assert.Equal(t, "one secret-one\n", page())
	assert.Equal(t, []string{"superseded", "superseded", "deployed"}, mine.revisions(t, name))

	assert.Contains(t, mine.does(t, "list"), name)
	assert.NotContains(t, bobs.does(t, "list", "--all-namespaces=false"), name)
	for _, args := range [][]string{{"status", name}, {"get", "values", name}, {"uninstall", name}, {"rollback", name, "1"}} {
		out, err := bobs.tries(t, args...)
		require.Error(t, err, "%v", args)
		assert.Contains(t, out, "not found", "%v", args)
	}
	assert.Equal(t, "one secret-one\n", page())

	assert.Contains(t, mine.does(t, "uninstall", name, "--wait", "--timeout=85s"), "uninstalled")
	me.says(t, "", "get", chartKinds, "-l", "app.kubernetes.io/instance="+name, "-o", "name")
	me.says(t, "", "get", "secrets", "-l", "owner=helm,name="+name, "-o", "name")
	assert.NotContains(t, mine.does(t, "list", "--failed", "--deployed", "--uninstalled"), name)
}
