// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func writingAttacks() []attack {
	return []attack{
		{name: "A17 update, patch and replace what is Bob's", run: changeOthers},
		{name: "A18 the own URL with Bob's name in the body", run: wrongName},
		{name: "A19 server-side apply onto Bob's name", run: applyOthers},
		{name: "A20 create with forged owner labels", run: forgeLabels},
		{name: "A21 give the own object to Bob", run: relabel},
		{name: "A22 remove all labels", run: unlabel},
		{name: "A55 metadata by subresources", run: subresources},
		{name: "A56 objects that are being deleted", run: beingDeleted},
		{name: "A68 dry runs", run: dryRuns},
	}
}

func changeOthers(t *testing.T, w *world) {
	check := w.untouched(t, bobs()...)
	for _, path := range bobs() {
		stored := w.root.gets(t, path)
		for kind, patch := range map[string]string{
			mergePatch: "{metadata: {labels: {stolen: x}}}", strategicPatch: "{metadata: {labels: {stolen: x}}}",
			jsonPatch: "[{op: add, path: /metadata/labels/stolen, value: x}]",
		} {
			w.alice.denied(t, notYours, http.MethodPatch, path, patch, "Content-Type", kind)
			got := w.alice.proxied().do(t, http.MethodPatch, path, patch, "Content-Type", kind)
			assert.Equal(t, http.StatusNotFound, got.code, "%s", got.body)
		}
		stored.object.SetLabels(map[string]string{ownerKey: w.alice.id})
		content, err := stored.object.MarshalJSON()
		require.NoError(t, err)
		forged := strings.ReplaceAll(string(content), w.marker, "stolen")
		w.alice.denied(t, notYours, http.MethodPut, path, forged)
		w.alice.denied(t, notYours, http.MethodDelete, path, "")
		w.mona.denied(t, notYours, http.MethodDelete, path, "")
	}
	check()
	got := w.bob.patches(t, "v1/configmaps/c-b", "{data: {more: x}}")
	require.Equal(t, http.StatusOK, got.code, "the owner may: %s", got.body)
	got = w.bob.patches(t, "v1/configmaps/c-b", "{data: {more: null}}")
	require.Equal(t, http.StatusOK, got.code, "%s", got.body)
}

func wrongName(t *testing.T, w *world) {
	check := w.untouched(t, "v1/configmaps/c-b", "v1/configmaps/c-a")
	got := w.alice.do(t, http.MethodPut, "v1/configmaps/c-a", "{metadata: {name: c-b}, data: {of: stolen}}")
	assert.Equal(t, http.StatusBadRequest, got.code, "%s", got.body)
	got = w.alice.do(t, http.MethodPut, "v1/configmaps/c-a", "{metadata: {name: c-a, namespace: qst}, data: {of: stolen}}")
	assert.Equal(t, http.StatusBadRequest, got.code, "%s", got.body)
	check()
	got = w.alice.do(t, http.MethodPut, "v1/configmaps/c-a", "{metadata: {name: c-a, annotations: {of: text-of-alice}}, data: {of: text-of-alice}}")
	assert.Equal(t, http.StatusOK, got.code, "%s", got.body)
}

func applyOthers(t *testing.T, w *world) {
	check := w.untouched(t, bobs()...)
	for path, object := range map[string]string{
		"v1/configmaps/c-b":        "{apiVersion: v1, kind: ConfigMap, metadata: {name: c-b}, data: {of: stolen}}",
		"v1/secrets/s-b":           "{apiVersion: v1, kind: Secret, metadata: {name: s-b}, stringData: {of: stolen}}",
		"apps/v1/deployments/d-b":  "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d-b}, spec: {replicas: 3}}",
		"v1/pods/p-b":              "{apiVersion: v1, kind: Pod, metadata: {name: p-b, labels: {" + ownerKey + ": " + w.alice.id + "}}}",
		"v1/serviceaccounts/sa-b":  "{apiVersion: v1, kind: ServiceAccount, metadata: {name: sa-b, labels: {a: b}}}",
		"v1/pods/p-b/status":       "{apiVersion: v1, kind: Pod, metadata: {name: p-b}, status: {message: x}}",
		"v1/configmaps/c-b/status": "{apiVersion: v1, kind: ConfigMap, metadata: {name: c-b}}",
	} {
		for _, force := range []string{"?fieldManager=x", "?fieldManager=x&force=true"} {
			for _, who := range []person{w.alice, w.alice.proxied()} {
				got := who.do(t, http.MethodPatch, path+force, object, "Content-Type", applyPatch)
				assert.Equal(t, http.StatusForbidden, got.code, "%s: %s", path, got.body)
			}
		}
	}
	manifest := writeFile(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c-b}\ndata: {of: stolen}\n")
	for _, args := range [][]string{
		{"apply", "-f", manifest},
		{"apply", "--server-side", "-f", manifest},
		{"apply", "--server-side", "--force-conflicts", "-f", manifest},
		{"replace", "--force", "-f", manifest},
		{"edit", "configmap/c-b"},
		{"annotate", "configmap/c-b", "a=b"},
	} {
		for _, who := range []person{w.alice, w.alice.proxied()} {
			out, err := who.tries(t, args...)
			assert.Error(t, err, "%v: %s", args, out)
		}
	}
	check()
	name := unique("a19")
	manifest = writeFile(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "+name+"}\ndata: {of: alice}\n")
	for _, who := range []person{w.alice, w.alice.proxied()} {
		who.kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", manifest)
	}
	assert.Equal(t, w.alice.id, w.alice.gets(t, "v1/configmaps/"+name).object.GetLabels()[ownerKey])
}

// forged are Bob's labels, and such as are nobody's.
func (w *world) forged() string {
	return "{" + ownerKey + ": " + w.bob.id + ", osn.infn.it/username: bob, osn.infn.it/projectid: " + w.carol.project +
		", osn.infn.it/projectname: QST, osn.infn.it/visible-to: " + w.bob.id + "}"
}

// owned demands all of the owner's labels.
func owned(t *testing.T, p person, labels map[string]string) {
	t.Helper()
	assert.Equal(t, p.id, labels[ownerKey])
	assert.Equal(t, p.name, labels["osn.infn.it/username"])
	assert.Equal(t, p.project, labels["osn.infn.it/projectid"])
	assert.Equal(t, strings.ToUpper(p.namespace), labels["osn.infn.it/projectname"])
	assert.Equal(t, p.id, labels["osn.infn.it/visible-to"])
}

func forgeLabels(t *testing.T, w *world) {
	pod := "{metadata: {labels: " + w.forged() + "}, spec: {restartPolicy: Never, containers: [{name: a, image: busybox}]}}"
	for resource, object := range map[string]string{
		"v1/configmaps": "{metadata: {name: NAME, labels: " + w.forged() + "}}",
		"v1/secrets":    "{metadata: {name: NAME, labels: " + w.forged() + "}}",
		"v1/pods":       "{metadata: {name: NAME, labels: " + w.forged() + "}, spec: {containers: [{name: a, image: busybox}], schedulingGates: [{name: example.org/wait}]}}",
		"batch/v1/jobs": "{metadata: {name: NAME, labels: " + w.forged() + "}, spec: {parallelism: 0, template: " + pod + "}}",
	} {
		for _, who := range []person{w.alice, w.alice.proxied()} {
			name := unique("a20")
			made := who.creates(t, resource, strings.ReplaceAll(object, "NAME", name))
			owned(t, w.alice, made.GetLabels())
			labels, is, _ := unstructured.NestedStringMap(made.Object, "spec", "template", "metadata", "labels")
			assert.True(t, !is || labels[ownerKey] == w.alice.id, "what is made of it is Alice's, too")
			w.alice.removes(t, resource+"/"+name+"?gracePeriodSeconds=0")
		}
	}
	name := unique("a20")
	w.alice.denied(t, "is the platform's and cannot be set", http.MethodPost, "v1/configmaps", "{metadata: {name: "+name+", annotations: {osn.infn.it/abandon: x}}}")
}

func relabel(t *testing.T, w *world) {
	for kind, patch := range map[string]string{
		mergePatch: "{metadata: {labels: " + w.forged() + "}}", strategicPatch: "{metadata: {labels: " + w.forged() + "}}",
		jsonPatch: "[{op: replace, path: /metadata/labels/osn.infn.it~1userid, value: " + w.bob.id + "}]",
	} {
		for _, path := range []string{"v1/configmaps/c-a", "v1/secrets/s-a", "apps/v1/deployments/d-a"} {
			got := w.alice.do(t, http.MethodPatch, path, patch, "Content-Type", kind)
			// The id of another project is refused where Alice shows it as hers; what is accepted is hers as before.
			require.Contains(t, []int{http.StatusOK, http.StatusForbidden}, got.code, "%s: %s", path, got.body)
			owned(t, w.alice, w.root.gets(t, path).object.GetLabels())
		}
	}
	assert.Equal(t, http.StatusOK, w.alice.patches(t, "v1/configmaps/c-a", "{metadata: {labels: {mine: x}}}").code)
}

func unlabel(t *testing.T, w *world) {
	for _, path := range []string{"v1/configmaps/c-a", "v1/secrets/s-a", "v1/services/svc-a"} {
		for kind, patch := range map[string]string{mergePatch: "{metadata: {labels: null}}", jsonPatch: "[{op: remove, path: /metadata/labels}]"} {
			got := w.alice.do(t, http.MethodPatch, path, patch, "Content-Type", kind)
			require.Equal(t, http.StatusOK, got.code, "%s: %s", path, got.body)
			owned(t, w.alice, got.object.GetLabels())
		}
	}
}

func subresources(t *testing.T, w *world) {
	name := unique("a55")
	w.alice.creates(t, "apps/v1/deployments", "{metadata: {name: "+name+
		"}, spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: busybox}]}}}}")
	waiting := unique("a55")
	w.alice.creates(t, "v1/pods", "{metadata: {name: "+waiting+"}, spec: {containers: [{name: a, image: busybox}], schedulingGates: [{name: example.org/wait}]}}")
	patch := "{metadata: {labels: " + w.forged() + "}, spec: {replicas: 0}}"
	for _, path := range []string{
		"apps/v1/deployments/" + name + "/scale", "apps/v1/deployments/" + name + "/status", "apps/v1/deployments/" + name + "/finalize",
		"v1/pods/" + waiting + "/status", "v1/pods/" + waiting + "/resize", "v1/pods/" + waiting + "/ephemeralcontainers", "/api/v1/namespaces/cms/status",
		"/api/v1/namespaces/cms/finalize", "/api/v1/namespaces/cms",
	} {
		got := w.alice.patches(t, path, patch)
		assert.Contains(t, []int{http.StatusOK, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity}, got.code, "%s: %s", path, got.body)
		owned(t, w.alice, w.root.gets(t, "apps/v1/deployments/"+name).object.GetLabels())
		owned(t, w.alice, w.root.gets(t, "v1/pods/"+waiting).object.GetLabels())
	}
	assert.Equal(t, w.alice.project, w.root.gets(t, "/api/v1/namespaces/cms").object.GetLabels()["osn.infn.it/projectid"])
	// The kubelet of Bob's node, of which he has the key, with the status of his own pod.
	kubelet, err := w.component("system:node:"+bobNode, "system:nodes")
	require.NoError(t, err)
	got := kubelet.patches(t, "v1/pods/p-b/status", "{metadata: {labels: {"+ownerKey+": "+w.alice.id+"}}, status: {message: hello}}")
	assert.Contains(t, []int{http.StatusOK, http.StatusForbidden, http.StatusUnprocessableEntity}, got.code, "%s", got.body)
	owned(t, w.bob, w.root.gets(t, "v1/pods/p-b").object.GetLabels())
	got = w.alice.patches(t, "apps/v1/deployments/"+name+"/scale", "{spec: {replicas: 0}}")
	assert.Equal(t, http.StatusOK, got.code, "the owner may scale: %s", got.body)
}

func beingDeleted(t *testing.T, w *world) {
	name := unique("a56")
	for _, who := range []person{w.alice, w.bob} {
		who.creates(t, "v1/configmaps", "{metadata: {name: "+name+"-"+who.name+", finalizers: [example.org/wait]}, data: {of: "+who.name+"}}")
		who.removes(t, "v1/configmaps/"+name+"-"+who.name)
	}
	check := w.untouched(t, "v1/configmaps/"+name+"-bob")
	w.alice.denied(t, notYours, http.MethodPatch, "v1/configmaps/"+name+"-bob", "{metadata: {finalizers: null}}", "Content-Type", mergePatch)
	w.alice.denied(t, notYours, http.MethodGet, "v1/configmaps/"+name+"-bob", "")
	check()
	got := w.alice.patches(t, "v1/configmaps/"+name+"-alice", "{metadata: {labels: "+w.forged()+"}}")
	assert.Contains(t, []int{http.StatusOK, http.StatusForbidden}, got.code, "%s", got.body)
	owned(t, w.alice, w.root.gets(t, "v1/configmaps/"+name+"-alice").object.GetLabels())
	for _, who := range []person{w.alice, w.bob} {
		got := who.patches(t, "v1/configmaps/"+name+"-"+who.name, "{metadata: {finalizers: null}}")
		assert.Equal(t, http.StatusOK, got.code, "the owner lets it go: %s", got.body)
	}
}

func dryRuns(t *testing.T, w *world) {
	check := w.untouched(t, bobs()...)
	name := unique("a68")
	stolen := "{metadata: {name: " + name + "}, spec: {containers: [{name: a, image: busybox, envFrom: [{secretRef: {name: s-b}}]}]}}"
	w.alice.denied(t, notMine, http.MethodPost, "v1/pods?dryRun=All", stolen)
	w.alice.denied(t, notYours, http.MethodPatch, "v1/configmaps/c-b?dryRun=All", "{data: {of: x}}", "Content-Type", mergePatch)
	w.alice.denied(t, notYours, http.MethodDelete, "v1/configmaps/c-b?dryRun=All", "")
	w.alice.denied(t, selectYours, http.MethodDelete, "v1/configmaps?dryRun=All", "")
	made := w.alice.creates(t, "v1/configmaps?dryRun=All", "{metadata: {name: "+name+", labels: "+w.forged()+"}}")
	owned(t, w.alice, made.GetLabels())
	assert.Equal(t, http.StatusNotFound, w.root.do(t, http.MethodGet, "v1/configmaps/"+name, "").code, "nothing was made")
	w.bob.creates(t, "v1/configmaps", "{metadata: {name: "+name+"}}")
	check()
}
