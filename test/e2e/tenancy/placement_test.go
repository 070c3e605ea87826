// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

//nolint:gochecknoglobals // a flag
var update = flag.Bool("update", false, "write the golden files anew")

// golden compares what a user sees with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got)
}

// TestTenancyPlacement goes through what the user guide says of where pods run, with the lab's kubectl and the examples.
func TestTenancyPlacement(t *testing.T) {
	w := theWorld(t)
	t.Run("private nodes by default", w.privateByDefault)
	t.Run("the annotation on a Pod, Deployment, ReplicaSet and CronJob", w.annotated)
	t.Run("shared uses both", w.sharedUsesBoth)
	t.Run("a node selector restricts", w.selected)
	t.Run("nodeName is refused", w.nodeNameRefused)
	t.Run("no private node", w.noPrivateNode)
	t.Run("a shared node of another project", w.otherProjectsNode)
}

// where are the nodes on which the person's pods with a label run, in order. It waits until there are count of them.
func (p person) where(t *testing.T, label string, count int) []string {
	t.Helper()
	var nodes []string
	eventually(t, "pods with "+label+" run", func() bool {
		nodes = nil
		for _, pod := range p.gets(t, "v1/pods?labelSelector="+p.own()+"%2C"+strings.ReplaceAll(label, "=", "%3D")).items(t) {
			node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
			if phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase"); phase == "Running" || phase == "Succeeded" {
				nodes = append(nodes, node)
			}
		}
		return len(nodes) == count
	})
	slices.Sort(nodes)
	return nodes
}

// unannotated is an example without the annotation, under another name.
func (w *world) unannotated(t *testing.T, file string, replace ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(w.source, "examples", "tenancy", file))
	require.NoError(t, err)
	text := strings.Replace(string(content), "  annotations:\n    osn.infn.it/policy: \"shared\"\n", "", 1)
	require.NotEqual(t, string(content), text)
	return writeFile(t, strings.NewReplacer(replace...).Replace(text))
}

func (w *world) privateByDefault(t *testing.T) {
	me := w.alice.proxied()
	deployment := w.unannotated(t, "deployment.yml", "web", "web-private", "replicas: 2", "replicas: 4")
	golden(t, "private.txt", me.kubectl(t, "apply", "-f", deployment))
	assert.Equal(t, []string{aliceNode, aliceNode, aliceNode, aliceNode}, me.where(t, "app=web-private", 4))
	me.kubectl(t, "delete", "-f", deployment)
}

// annotated runs every kind on the shared node alone: the private one takes no more pods meanwhile.
func (w *world) annotated(t *testing.T) {
	me, files := w.alice.proxied(), []string{"pod.yml", "deployment.yml", "replicaset.yml", "cronjob.yml"}
	w.root.tell(t, "/api/v1/nodes/"+aliceNode, "{spec: {unschedulable: true}}")
	defer w.root.tell(t, "/api/v1/nodes/"+aliceNode, "{spec: {unschedulable: null}}")
	var args, printed []string
	for _, file := range files {
		args = append(args, "-f", file)
		printed = append(printed, me.kubectl(t, "apply", "-f", file))
	}
	golden(t, "annotated.txt", strings.Join(printed, ""))
	me.kubectl(t, "create", "job", "--from=cronjob/nightly", "now")
	for label, count := range map[string]int{"app=dnsutils-shared": 1, "app=web": 2, "app=workers": 2, "job-name=now": 1} {
		assert.Equal(t, slices.Repeat([]string{sharedNode}, count), me.where(t, label, count), label)
	}
	me.kubectl(t, append([]string{"delete", "job/now"}, "--wait=false")...)
	me.kubectl(t, append([]string{"delete", "--wait=false", "--grace-period=1"}, args...)...)
}

// tell merges something into an object, as the person.
func (p person) tell(t *testing.T, path, patch string) {
	t.Helper()
	got := p.patches(t, path, patch)
	require.Equal(t, 200, got.code, "%s", got.body)
}

func (w *world) sharedUsesBoth(t *testing.T) {
	me := w.alice.proxied()
	content, err := os.ReadFile(filepath.Join(w.source, "examples", "tenancy", "replicaset.yml"))
	require.NoError(t, err)
	both := writeFile(t, strings.NewReplacer("workers", "both", "replicas: 2", "replicas: 6").Replace(string(content)))
	me.kubectl(t, "apply", "-f", both)
	nodes := slices.Compact(me.where(t, "app=both", 6))
	assert.Equal(t, []string{sharedNode, aliceNode}, nodes, "its own private node and the project's shared one, and no other")
	me.kubectl(t, "delete", "--wait=false", "--grace-period=1", "-f", both)
}

func (w *world) selected(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(w.source, "examples", "tenancy", "pod-on-node.yml"))
	require.NoError(t, err)
	me := w.alice.proxied()
	for _, node := range []string{sharedNode, aliceNode} {
		example := writeFile(t, strings.ReplaceAll(string(content), "NODE-ID", node))
		me.kubectl(t, "apply", "-f", example)
		assert.Equal(t, []string{node}, me.where(t, "app=dnsutils-on-node", 1))
		assert.Contains(t, me.kubectl(t, "get", "pods", "-o", "wide"), node)
		me.kubectl(t, "delete", "--grace-period=1", "-f", example)
	}
	// What is not among the allowed nodes is not selected, either.
	for node, text := range map[string]string{bobNode: string(content), sharedNode: strings.ReplaceAll(string(content), `"shared"`, `"private"`)} {
		example := writeFile(t, strings.ReplaceAll(text, "NODE-ID", node))
		me.kubectl(t, "apply", "-f", example)
		unschedulable(t, me, "dnsutils-on-node")
		me.kubectl(t, "delete", "--grace-period=1", "-f", example)
	}
}

func (w *world) nodeNameRefused(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(w.source, "examples", "tenancy", "pod-on-node.yml"))
	require.NoError(t, err)
	example := writeFile(t, strings.ReplaceAll(string(content), "  nodeSelector:\n    kubernetes.io/hostname: NODE-ID\n", "  nodeName: "+aliceNode+"\n"))
	out, err := w.alice.proxied().tries(t, "apply", "-f", example)
	require.Error(t, err)
	assert.Contains(t, out, "spec.nodeName is not allowed; use nodeSelector kubernetes.io/hostname")
}

func (w *world) noPrivateNode(t *testing.T) {
	// Mona has none, and Carol's project has none at all.
	for _, one := range []struct {
		who    person
		golden string
	}{{w.mona, "no-private-node.txt"}, {w.carol, "no-private-node.txt"}} {
		me := one.who.proxied()
		pod := w.unannotated(t, "pod.yml", "dnsutils-shared", "dnsutils-private-"+me.name)
		golden(t, one.golden, strings.ReplaceAll(me.kubectl(t, "apply", "-f", pod), me.name, "USER"))
		unschedulable(t, me, "dnsutils-private-"+me.name)
		assert.Contains(t, me.kubectl(t, "get", "pods"), "Pending")
		me.kubectl(t, "delete", "--grace-period=1", "-f", pod)
	}
	content, err := os.ReadFile(filepath.Join(w.source, "examples", "tenancy", "pod.yml"))
	require.NoError(t, err)
	me, shared := w.mona.proxied(), writeFile(t, strings.ReplaceAll(string(content), "dnsutils-shared", "dnsutils-mona"))
	me.kubectl(t, "apply", "-f", shared)
	assert.Equal(t, []string{sharedNode}, me.where(t, "app=dnsutils-mona", 1), "with the annotation it runs")
	me.kubectl(t, "delete", "--grace-period=1", "-f", shared)
}

func (w *world) otherProjectsNode(t *testing.T) {
	me := w.carol.proxied()
	golden(t, "no-node.txt", me.kubectl(t, "apply", "-f", "deployment.yml"))
	var name string
	eventually(t, "there is a pod", func() bool {
		pods := me.gets(t, "v1/pods?labelSelector=app%3Dweb").names(t)
		if len(pods) > 0 {
			name = pods[0]
		}
		return name != ""
	})
	unschedulable(t, me, name)
	me.kubectl(t, "delete", "--wait=false", "-f", "deployment.yml")
}
