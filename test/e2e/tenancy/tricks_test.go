// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/cloudveneto/caas/internal/lab"
)

func placementAttacks() []attack {
	return []attack{
		{name: "A49 nodeName everywhere", run: nodeNames},
		{name: "A50 tolerations of everything", run: tolerate},
		{name: "A51 affinity tricks", run: affinities},
		{name: "A52 the annotation in other forms", run: annotations},
		{name: "A53 DaemonSet", run: daemonSet},
		{name: "A54 schedulers, and gates with a later affinity", run: gates},
	}
}

func nodeNames(t *testing.T, w *world) {
	template := "{metadata: {labels: {a: b}}, spec: {nodeName: " + bobNode + ", restartPolicy: RESTART, containers: [{name: a, image: busybox}]}}"
	always, never := strings.Replace(template, "RESTART", "Always", 1), strings.Replace(template, "RESTART", "Never", 1)
	const words = "nodeName is not allowed; use nodeSelector kubernetes.io/hostname"
	for resource, spec := range map[string]string{
		"v1/pods":                   "nodeName: " + bobNode + ", containers: [{name: a, image: busybox}]",
		"apps/v1/deployments":       "selector: {matchLabels: {a: b}}, template: " + always,
		"apps/v1/replicasets":       "selector: {matchLabels: {a: b}}, template: " + always,
		"apps/v1/statefulsets":      "serviceName: x, selector: {matchLabels: {a: b}}, template: " + always,
		"apps/v1/daemonsets":        "selector: {matchLabels: {a: b}}, template: " + always,
		"batch/v1/jobs":             "template: " + never,
		"batch/v1/cronjobs":         "schedule: '0 0 1 1 *', jobTemplate: {spec: {template: " + never + "}}",
		"v1/replicationcontrollers": "selector: {a: b}, template: " + always,
	} {
		for _, who := range []person{w.alice, w.alice.proxied()} {
			who.denied(t, words, http.MethodPost, resource, "{metadata: {name: "+unique("a49")+"}, spec: {"+spec+"}}")
			own := strings.ReplaceAll(spec, bobNode, aliceNode)
			who.denied(t, words, http.MethodPost, resource, "{metadata: {name: "+unique("a49")+"}, spec: {"+own+"}}")
		}
	}
	w.alice.denied(t, words, http.MethodPatch, "apps/v1/deployments/d-a", "{spec: {template: {spec: {nodeName: "+bobNode+"}}}}", "Content-Type", mergePatch)
	w.alice.denied(t, "spec.nodeName is not allowed", http.MethodPost, "v1/pods", "{metadata: {name: "+unique("a49")+
		", annotations: {kubernetes.io/config.mirror: x}}, spec: {nodeName: "+bobNode+", containers: [{name: a, image: busybox}]}}")
	// Root on a node has the kubelet's key, and would make the pod look like a static one.
	kubelet, err := w.component("system:node:"+bobNode, "system:nodes")
	require.NoError(t, err)
	uid := string(w.root.gets(t, "/api/v1/nodes/"+bobNode).object.GetUID())
	kubelet.denied(t, "ValidatingAdmissionPolicy 'kube-mt-pods'", http.MethodPost, "v1/pods", "{metadata: {name: mirror-"+bobNode+", labels: {app: web-a, "+ownerKey+": "+w.alice.id+
		"}, annotations: {kubernetes.io/config.mirror: x, kubernetes.io/config.source: file, kubernetes.io/config.hash: x}, ownerReferences: [{apiVersion: v1, kind: Node, name: "+bobNode+", uid: "+uid+
		", controller: true}]}, spec: {nodeName: "+bobNode+", containers: [{name: a, image: busybox}]}}")
	out, err := w.alice.proxied().tries(t, "run", unique("a49"), "--image=busybox", `--overrides={"spec":{"nodeName":"`+bobNode+`"}}`)
	require.Error(t, err)
	assert.Contains(t, out, "spec.nodeName is not allowed; use nodeSelector kubernetes.io/hostname")
}

func tolerate(t *testing.T, w *world) {
	for toleration, words := range map[string]string{
		"{operator: Exists}":                                             "tolerating every taint is not allowed; give a key",
		"{operator: Exists, effect: NoSchedule}":                         "tolerating every taint is not allowed; give a key",
		"{key: osn.infn.it/pool, operator: Exists}":                      "taint",
		"{key: osn.infn.it/pool, value: u-" + w.bob.id + "}":             "taint",
		"{key: osn.infn.it/pool, value: p-" + w.carol.project + "}":      "taint",
		"{key: osn.infn.it/uninitialized, operator: Exists}":             "taint",
		"{key: node-role.kubernetes.io/control-plane, operator: Exists}": "taint",
	} {
		w.alice.denied(t, words, http.MethodPost, "v1/pods", pauses(unique("a50"), ", tolerations: ["+toleration+"]"))
		w.alice.denied(t, words, http.MethodPost, "apps/v1/deployments", "{metadata: {name: "+unique("a50")+
			"}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {tolerations: ["+toleration+"], containers: [{name: a, image: b}]}}}}")
		got := w.alice.do(t, http.MethodPatch, "v1/pods/p-a", "[{op: add, path: /spec/tolerations/-, value: "+toleration+"}]", "Content-Type", jsonPatch)
		assert.Equal(t, http.StatusForbidden, got.code, "%s: %s", toleration, got.body)
	}
	got := w.alice.do(t, http.MethodPatch, "v1/pods/p-a?dryRun=All", "[{op: add, path: /spec/tolerations/-, value: {key: example.org/mine, operator: Exists}}]", "Content-Type", jsonPatch)
	assert.Equal(t, http.StatusOK, got.code, "other taints: %s", got.body)
}

// nodeOf is where a pod runs, empty while nowhere.
func nodeOf(t *testing.T, who person, name string) string {
	t.Helper()
	node, _, _ := unstructured.NestedString(who.gets(t, "v1/pods/"+name).object.Object, "spec", "nodeName")
	return node
}

// unschedulable waits until the scheduler has said that it has no node for a pod, and looks whether it remains so.
func unschedulable(t *testing.T, who person, name string) {
	t.Helper()
	eventually(t, name+" has been looked at", func() bool {
		conditions, _, _ := unstructured.NestedSlice(who.gets(t, "v1/pods/"+name).object.Object, "status", "conditions")
		return slices.ContainsFunc(conditions, func(one any) bool { return one.(map[string]any)["reason"] == "Unschedulable" })
	})
	assert.Empty(t, nodeOf(t, who, name))
}

func affinities(t *testing.T, w *world) {
	hostname := func(node string) string { return "{key: kubernetes.io/hostname, operator: In, values: [" + node + "]}" }
	anything := "{key: kubernetes.io/hostname, operator: Exists}"
	// What has no node of Alice's stays Pending; all else lands on hers.
	for name, one := range map[string]struct {
		terms string
		lands bool
	}{
		"many terms":               {"[{matchExpressions: [" + anything + "]}, {matchExpressions: [" + hostname(bobNode) + "]}, {matchExpressions: [" + hostname(sharedNode) + "]}]", true},
		"one empty term":           {"[{}]", false},
		"empty terms":              {"[{}, {matchExpressions: []}, {matchFields: []}]", false},
		"empty and foreign":        {"[{}, {matchExpressions: [" + hostname(bobNode) + "]}]", false},
		"foreign by name":          {"[{matchFields: [{key: metadata.name, operator: In, values: [" + bobNode + "]}]}]", false},
		"own or foreign by name":   {"[{matchFields: [{key: metadata.name, operator: In, values: [" + bobNode + "]}]}, {matchFields: [{key: metadata.name, operator: In, values: [" + aliceNode + "]}]}]", true},
		"the pool of Bob":          {"[{matchExpressions: [{key: " + lab.NodePoolLabel + ", operator: In, values: [u-" + w.bob.id + "]}]}]", false},
		"no pool, or any":          {"[{matchExpressions: [{key: " + lab.NodePoolLabel + ", operator: DoesNotExist}]}, {matchExpressions: [{key: " + lab.NodePoolLabel + ", operator: Exists}]}]", true},
		"the pool of all and mine": {"[{matchExpressions: [{key: " + lab.NodePoolLabel + ", operator: In, values: [u-" + w.alice.id + ", u-" + w.bob.id + ", p-" + w.alice.project + "]}]}]", true},
	} {
		t.Run(name, func(t *testing.T) {
			pod := unique("a51")
			got := w.alice.do(t, http.MethodPost, "v1/pods", pauses(pod, ", affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "+one.terms+"}}}"))
			require.Equal(t, http.StatusCreated, got.code, "%s", got.body)
			if !one.lands {
				unschedulable(t, w.alice, pod)
			} else {
				eventually(t, "it runs", func() bool { return nodeOf(t, w.alice, pod) != "" })
				assert.Equal(t, aliceNode, nodeOf(t, w.alice, pod))
			}
			w.alice.removes(t, "v1/pods/"+pod)
		})
	}
	for _, spec := range []string{
		", affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [" + hostname(bobNode) + "]}}]}}",
		", affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web-b}}}}]}}",
	} {
		pod := unique("a51")
		w.alice.creates(t, "v1/pods", pauses(pod, spec))
		eventually(t, "it runs", func() bool { return nodeOf(t, w.alice, pod) != "" })
		assert.Equal(t, aliceNode, nodeOf(t, w.alice, pod))
		w.alice.removes(t, "v1/pods/"+pod)
	}
}

// poolsOf are those that a pod is restricted to.
func poolsOf(t *testing.T, object map[string]any) [][]string {
	t.Helper()
	terms, _, err := unstructured.NestedSlice(object, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	require.NoError(t, err)
	var all [][]string
	for _, term := range terms {
		expressions, _, _ := unstructured.NestedSlice(term.(map[string]any), "matchExpressions")
		for _, one := range expressions {
			if expression := one.(map[string]any); expression["key"] == lab.NodePoolLabel {
				values, _, _ := unstructured.NestedStringSlice(expression, "values")
				all = append(all, values)
			}
		}
	}
	return all
}

func annotations(t *testing.T, w *world) {
	private, shared := []string{"u-" + w.alice.id}, []string{"u-" + w.alice.id, "p-" + w.alice.project}
	pod := func(notes string) string {
		return "{metadata: {name: " + unique("a52") + ", annotations: {" + notes + "}}, spec: {containers: [{name: a, image: b}]}}"
	}
	for notes, pools := range map[string][]string{
		"": private, policy + ": private": private, policy + ": shared": shared, "OSN.infn.it/policy: shared": private, "osn.infn.it.evil.org/policy: shared": private,
	} {
		made := w.alice.creates(t, "v1/pods?dryRun=All", pod(notes))
		assert.Equal(t, [][]string{pools}, poolsOf(t, made.Object), notes)
	}
	for _, value := range []string{"Shared", "SHARED", "' shared'", "'shared '", "'true'", "all", "''", "p-" + w.carol.project, "'private,shared'"} {
		w.alice.denied(t, "is neither private nor shared", http.MethodPost, "v1/pods", pod(policy+": "+value))
		w.alice.denied(t, "is neither private nor shared", http.MethodPost, "apps/v1/deployments", "{metadata: {name: "+unique("a52")+", annotations: {"+policy+": "+value+
			"}}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}}")
	}
	// On the workload only, on the template only, and on both: the template's counts.
	for _, one := range []struct {
		workload, template string
		pools              []string
	}{{"shared", "", shared}, {"", "shared", shared}, {"private", "shared", shared}, {"shared", "private", private}, {"", "", private}} {
		name := unique("a52")
		note := func(value string) string {
			if value == "" {
				return "{}"
			}
			return "{" + policy + ": " + value + "}"
		}
		w.alice.creates(t, "apps/v1/replicasets", "{metadata: {name: "+name+", annotations: "+note(one.workload)+"}, spec: {replicas: 1, selector: {matchLabels: {a: "+name+
			"}}, template: {metadata: {labels: {a: "+name+"}, annotations: "+note(one.template)+"}, spec: {nodeSelector: {no: where}, containers: [{name: a, image: b}]}}}}")
		var made []unstructured.Unstructured
		eventually(t, "there is a pod", func() bool {
			made = w.alice.gets(t, "v1/pods?labelSelector="+w.alice.own()+"%2Ca%3D"+name).items(t)
			return len(made) == 1
		})
		assert.Equal(t, [][]string{one.pools}, poolsOf(t, made[0].Object), "%+v", one)
		w.alice.removes(t, "apps/v1/replicasets/"+name+"?propagationPolicy=Background")
	}
	// The annotation of a pod that is there moves nothing.
	w.alice.patches(t, "v1/pods/p-a", "{metadata: {annotations: {"+policy+": shared}}}")
	assert.Equal(t, [][]string{private}, poolsOf(t, w.alice.gets(t, "v1/pods/p-a").object.Object))
}

func daemonSet(t *testing.T, w *world) {
	for mode, nodes := range map[string][]string{"private": {aliceNode}, "shared": {sharedNode, aliceNode}} {
		name := unique("a53")
		w.alice.creates(t, "apps/v1/daemonsets", "{metadata: {name: "+name+", annotations: {"+policy+": "+mode+"}}, spec: {selector: {matchLabels: {a: "+name+
			"}}, template: {metadata: {labels: {a: "+name+"}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: a, image: '"+busybox+"', command: [sleep, infinity]}]}}}}")
		where := func() []string {
			var all []string
			for _, pod := range w.alice.gets(t, "v1/pods?labelSelector="+w.alice.own()+"%2Ca%3D"+name).items(t) {
				node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
				all = append(all, node)
			}
			slices.Sort(all)
			return all
		}
		eventually(t, mode+": a pod on each of the allowed nodes", func() bool { return slices.Equal(where(), nodes) })
		stays(t, mode+": and on no other", func() bool { return slices.Equal(where(), nodes) })
		w.alice.removes(t, "apps/v1/daemonsets/"+name+"?propagationPolicy=Background")
	}
}

func gates(t *testing.T, w *world) {
	w.alice.denied(t, "spec.schedulerName: evil is not allowed", http.MethodPost, "v1/pods", pauses(unique("a54"), ", schedulerName: evil"))
	w.alice.denied(t, "spec.priorityClassName: system-node-critical is not allowed", http.MethodPost, "v1/pods", pauses(unique("a54"), ", priorityClassName: system-node-critical"))
	name := unique("a54")
	w.alice.creates(t, "v1/pods", pauses(name, ", schedulingGates: [{name: example.org/wait}]"))
	before := poolsOf(t, w.alice.gets(t, "v1/pods/"+name).object.Object)
	require.Equal(t, [][]string{{"u-" + w.alice.id}}, before)
	for _, patch := range []string{
		"{spec: {affinity: null}}", "{spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: null}}}}",
		"{spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [" + bobNode + "]}]}]}}}}}",
		"{spec: {nodeName: " + bobNode + "}}", "{spec: {schedulerName: evil}}",
	} {
		got := w.alice.patches(t, "v1/pods/"+name, patch)
		assert.Contains(t, []int{http.StatusForbidden, http.StatusUnprocessableEntity}, got.code, "%s: %s", patch, got.body)
	}
	assert.Equal(t, before, poolsOf(t, w.alice.gets(t, "v1/pods/"+name).object.Object))
	got := w.alice.patches(t, "v1/pods/"+name, "{spec: {nodeSelector: {kubernetes.io/hostname: "+aliceNode+"}}}")
	require.Equal(t, http.StatusOK, got.code, "tightening is allowed: %s", got.body)
	got = w.alice.patches(t, "v1/pods/"+name, "{spec: {schedulingGates: null}}")
	require.Equal(t, http.StatusOK, got.code, "%s", got.body)
	eventually(t, "it runs", func() bool { return nodeOf(t, w.alice, name) == aliceNode })
	w.alice.removes(t, "v1/pods/"+name)
}
