// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/multitenancy/admission"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

func texts(from object) map[string]string {
	found := map[string]string{}
	for label, value := range from {
		found[label], _ = value.(string)
	}
	return found
}

func TestLabels(t *testing.T) {
	t.Parallel()
	stored := of(alice, parse(t, "metadata: {name: mine, labels: {a: b}, annotations: {osn.infn.it/note: x, c: d}}"))
	forged := of(bob, parse(t, "metadata: {name: mine}"))
	for name, test := range map[string]struct {
		request
		want map[string]string
	}{
		"A20 created with forged labels": {request{by: user(alice), resource: "core/configmaps", object: forged}, texts(marked(alice))},
		"A21 relabelled": {
			request{by: user(alice), operation: admissionv1.Update, resource: "core/configmaps", object: forged, old: of(alice, parse(t, "metadata: {name: mine}"))},
			texts(marked(alice)),
		},
		"A22 removed": {
			request{by: user(alice), operation: admissionv1.Update, resource: "core/configmaps", object: parse(t, "metadata: {name: mine}"), old: stored},
			texts(marked(alice)),
		},
		"A55 by status": {
			request{
				by: user(alice), operation: admissionv1.Update, resource: "apps/deployments/status",
				object: of(bob, parse(t, "metadata: {name: mine, labels: {new: one}}")), old: stored,
			},
			with(texts(marked(alice)), "new", "one"),
		},
		"A55 by a node": {
			request{
				by: system("system:node:n", "system:nodes"), operation: admissionv1.Update, resource: "core/pods/status",
				object: of(bob, parse(t, "metadata: {name: mine, labels: {app: web}}")), old: stored,
			},
			with(texts(marked(alice)), "a", "b"),
		},
		"system object stays so": {
			request{
				by: system("system:kube-controller-manager"), operation: admissionv1.Update, resource: "core/configmaps",
				object: forged, old: parse(t, "metadata: {name: mine}"),
			},
			map[string]string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after, response := newWorld(t).decide(t, test.request)
			require.Empty(t, refused(response))
			assert.Equal(t, test.want, labelsOf(after))
		})
	}
}

func with(labels map[string]string, key, value string) map[string]string {
	labels[key] = value
	return labels
}

func TestVisibility(t *testing.T) {
	t.Parallel()
	shown := func(from object) object {
		labels, _ := from["metadata"].(object)["labels"].(object)
		labels[tenant.LabelVisibleTo] = tenant.VisibleToProject
		return from
	}
	mine := func() object { return of(alice, parse(t, "metadata: {name: mine}")) }
	for name, test := range map[string]struct {
		request
		want string
	}{
		"shown":           {request{resource: "core/configmaps", object: shown(mine())}, "project"},
		"shown later":     {request{operation: admissionv1.Update, resource: "core/configmaps", object: shown(mine()), old: mine()}, "project"},
		"hidden again":    {request{operation: admissionv1.Update, resource: "core/configmaps", object: mine(), old: shown(mine())}, alice},
		"label forgotten": {request{operation: admissionv1.Update, resource: "core/configmaps", object: parse(t, "metadata: {name: mine}"), old: shown(mine())}, "project"},
		"shared machine":  {request{resource: "osnode.infn.it/openstacknodes", object: parse(t, "metadata: {name: m}\nspec: {policy: shared}")}, "project"},
		"private machine": {request{resource: "osnode.infn.it/openstacknodes", object: shown(of(alice, parse(t, "metadata: {name: m}\nspec: {policy: private}")))}, alice},
		"machine made private": {
			request{operation: admissionv1.Update, resource: "osnode.infn.it/openstacknodes", object: of(alice, parse(t, "metadata: {name: m}\nspec: {policy: private}")), old: shown(of(alice, parse(t, "metadata: {name: m}\nspec: {policy: shared}")))},
			alice,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.by = user(alice)
			after, response := newWorld(t).decide(t, test.request)
			require.Empty(t, refused(response))
			assert.Equal(t, test.want, labelsOf(after)[tenant.LabelVisibleTo])
		})
	}
}

// Controllers copy labels: what they make of something that the project sees is not shown for that.
func TestVisibilityOfChildren(t *testing.T) {
	t.Parallel()
	copied := func(more string) object {
		made := of(alice, parse(t, "metadata: {name: mine"+more+"}"))
		made["metadata"].(object)["labels"].(object)[tenant.LabelVisibleTo] = tenant.VisibleToProject
		return made
	}
	controller := system("system:serviceaccount:kube-system:endpoint-controller")
	for name, r := range map[string]request{
		"made":    {by: controller, resource: "core/endpoints", object: copied("")},
		"changed": {by: controller, operation: admissionv1.Update, resource: "core/endpoints", object: copied(""), old: of(alice, parse(t, "metadata: {name: mine}"))},
		"controlled": {
			by: system("system:serviceaccount:kube-system:replicaset-controller"), resource: "core/pods",
			object: copied(", ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: mine, uid: replicasets/mine, controller: true}]"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after, response := newWorld(t).decide(t, r)
			require.Empty(t, refused(response))
			assert.Equal(t, alice, labelsOf(after)[tenant.LabelVisibleTo])
		})
	}
	_, response := newWorld(t).decide(t, request{by: user(alice), resource: "core/pods", object: copied("")})
	assert.Contains(t, refused(response), "pods cannot be shown to the project", "a user is told")
}

func TestChildren(t *testing.T) {
	t.Parallel()
	const byUID = "metadata: {name: child, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: %s, uid: replicasets/%s, controller: true}]}\nspec: {containers: []}"
	controller := system("system:serviceaccount:kube-system:replicaset-controller")
	t.Run("the owner of the controlling object", func(t *testing.T) {
		t.Parallel()
		after, response := newWorld(t).decide(t, request{by: controller, resource: "core/pods", object: parse(t, strings.ReplaceAll(byUID, "%s", "mine"))})
		require.Empty(t, refused(response))
		assert.Equal(t, alice, labelsOf(after)[tenant.LabelUserID])
		assert.Equal(t, "owner-of-mine", labelsOf(after)[tenant.LabelUserName])
	})
	t.Run("labels do not count against it", func(t *testing.T) {
		t.Parallel()
		after, response := newWorld(t).decide(t, request{by: controller, resource: "core/pods", object: of(bob, parse(t, strings.ReplaceAll(byUID, "%s", "mine")))})
		require.Empty(t, refused(response))
		assert.Equal(t, alice, labelsOf(after)[tenant.LabelUserID])
	})
	t.Run("made a moment ago", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.lookup = func(asked admission.Key) (*admission.Object, error) {
			assert.Equal(t, key("apps", "replicasets", "new"), asked)
			return &admission.Object{Key: asked, UID: "replicasets/new", Owner: tenant.Owner{UserID: bob}}, nil
		}
		after, response := w.decide(t, request{by: controller, resource: "core/pods", object: parse(t, strings.ReplaceAll(byUID, "%s", "new"))})
		require.Empty(t, refused(response))
		assert.Equal(t, bob, labelsOf(after)[tenant.LabelUserID])
	})
	t.Run("A41 adoption of another's pod", func(t *testing.T) {
		t.Parallel()
		orphan := of(bob, parse(t, "metadata: {name: bobs}\nspec: {containers: []}"))
		adopted := of(bob, parse(t, strings.ReplaceAll(strings.ReplaceAll(byUID, "%s", "mine"), "child", "bobs")))
		_, response := newWorld(t).decide(t, request{by: controller, operation: admissionv1.Update, resource: "core/pods", object: adopted, old: orphan})
		assert.Equal(t, `metadata.ownerReferences: ReplicaSet "mine": not found or not yours`, refused(response))
	})
	t.Run("a claim of a StatefulSet has its labels from the template", func(t *testing.T) {
		t.Parallel()
		after, response := newWorld(t).decide(t, request{
			by: system("system:serviceaccount:kube-system:statefulset-controller"), resource: "core/persistentvolumeclaims",
			object: of(alice, parse(t, "metadata: {name: data-db-0}\nspec: {}")),
		})
		require.Empty(t, refused(response))
		assert.Equal(t, texts(marked(alice)), labelsOf(after))
	})
	t.Run("A46 a claim of a StatefulSet from another's", func(t *testing.T) {
		t.Parallel()
		_, response := newWorld(t).decide(t, request{
			by: system("system:serviceaccount:kube-system:statefulset-controller"), resource: "core/persistentvolumeclaims",
			object: of(alice, parse(t, "metadata: {name: data-db-0}\nspec: {dataSource: {kind: PersistentVolumeClaim, name: bobs}}")),
		})
		assert.Equal(t, `spec.dataSource: persistentvolumeclaims "bobs": not found or not yours`, refused(response))
	})
	t.Run("an operator's keys stay", func(t *testing.T) {
		t.Parallel()
		made := of(alice, parse(t, "metadata: {name: o, labels: {osn.infn.it/nodepool: p}}\nspec: {policy: private}"))
		after, response := newWorld(t).decide(t, request{by: system("system:serviceaccount:caas-system:osnode-controller"), resource: "osnode.infn.it/openstacknodes", object: made})
		require.Empty(t, refused(response))
		assert.Equal(t, "p", labelsOf(after)["osn.infn.it/nodepool"])
	})
}

// TestSelectors is one case for each kind by which users act upon objects by labels.
func TestSelectors(t *testing.T) {
	t.Parallel()
	owner := object{tenant.LabelUserID: alice}
	for name, test := range map[string]struct {
		resource, object string
		at               []string
		want             object
	}{
		"A42 service":          {"core/services", "metadata: {name: s}\nspec: {selector: {app: web}}", []string{"spec", "selector"}, object{"app": "web", tenant.LabelUserID: alice}},
		"A42 forged":           {"core/services", "metadata: {name: s}\nspec: {selector: {osn.infn.it/userid: " + bob + "}}", []string{"spec", "selector"}, owner},
		"A41 replicaset":       {"apps/replicasets", "metadata: {name: s}\nspec: {selector: {matchExpressions: [{key: app, operator: Exists}]}}", []string{"spec", "selector", "matchLabels"}, owner},
		"A41 deployment":       {"apps/deployments", "metadata: {name: s}\nspec: {selector: {matchLabels: {app: web}}}", []string{"spec", "selector", "matchLabels"}, object{"app": "web", tenant.LabelUserID: alice}},
		"A41 controller":       {"core/replicationcontrollers", "metadata: {name: s}\nspec: {selector: {app: web}}", []string{"spec", "selector"}, object{"app": "web", tenant.LabelUserID: alice}},
		"A44 disruption":       {"policy/poddisruptionbudgets", "metadata: {name: s}\nspec: {selector: {}}", []string{"spec", "selector", "matchLabels"}, owner},
		"A44 network":          {"networking.k8s.io/networkpolicies", "metadata: {name: s}\nspec: {podSelector: {}}", []string{"spec", "podSelector", "matchLabels"}, owner},
		"A44 network, no spec": {"networking.k8s.io/networkpolicies", "metadata: {name: s}\nspec: {policyTypes: [Ingress]}", []string{"spec", "podSelector", "matchLabels"}, owner},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			after, response := w.decide(t, request{by: user(alice), resource: test.resource, object: parse(t, test.object)})
			require.Empty(t, refused(response))
			got := after
			for _, step := range test.at {
				got, _ = got[step].(object)
			}
			assert.Equal(t, test.want, got)

			review := request{by: user(alice), resource: test.resource, object: of(alice, parse(t, test.object))}.review(t)
			answer, err := w.Validate(t.Context(), review)
			require.NoError(t, err)
			assert.Contains(t, refused(answer), "must have "+tenant.LabelUserID+"="+alice, "without the mutating half")
		})
	}
}

func TestPeers(t *testing.T) {
	t.Parallel()
	after, response := newWorld(t).decide(t, request{by: user(alice), resource: "networking.k8s.io/networkpolicies", object: parse(t,
		"metadata: {name: n}\nspec: {podSelector: {}, ingress: [{from: [{podSelector: {}}, {namespaceSelector: {}, podSelector: {}}]}], egress: [{to: [{podSelector: {matchLabels: {a: b}}}]}]}")})
	require.Empty(t, refused(response))
	spec, _ := after["spec"].(object)
	assert.Equal(t, []any{object{"from": []any{
		object{"podSelector": object{"matchLabels": object{tenant.LabelUserID: alice}}},
		object{"namespaceSelector": object{}, "podSelector": object{}},
	}}}, spec["ingress"])
	assert.Equal(t, []any{object{"to": []any{object{"podSelector": object{"matchLabels": object{"a": "b", tenant.LabelUserID: alice}}}}}}, spec["egress"])
}

// TestTwice: what the mutating half made, it leaves alone, and the validating half accepts.
func TestTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		resource, made := honest(t, random)
		r := request{by: user(alice), resource: resource, object: made}
		once, response := w.decide(t, r)
		require.Empty(t, refused(response), "%s %v", resource, made)
		again, second := w.mutated(t, request{by: r.by, resource: resource, object: once})
		require.Nil(t, second.Patch, "%s %s", resource, second.Patch)
		require.Equal(t, once, again)

		if resource == "core/pods" {
			continue // the API server itself lets nobody replace a pod's spec
		}
		changed, response := w.decide(t, request{by: r.by, operation: admissionv1.Update, resource: resource, object: made, old: once})
		require.Empty(t, refused(response), "the same applied again: %s %v", resource, made)
		require.Equal(t, once, changed, "%s", resource)
	}
}

// honest makes an object as users write them.
func honest(t *testing.T, random *rand.Rand) (resource string, made object) {
	t.Helper()
	pick := func(choices ...string) string { return choices[random.IntN(len(choices))] }
	spec := "containers: [{name: a, image: b" + pick("", ", envFrom: [{secretRef: {name: mine}}]", ", env: [{name: X, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]") + "}]\n" +
		pick("", "serviceAccountName: mine\n", "serviceAccountName: default\n", "automountServiceAccountToken: true\n") +
		pick("", "volumes: [{name: v, configMap: {name: mine}}]\n", "volumes: [{name: kube-api-access-x, projected: {sources: [{serviceAccountToken: {}}, {configMap: {name: kube-root-ca.crt}}]}}]\n") +
		pick("", "nodeSelector: {kubernetes.io/hostname: alice-1}\n", "tolerations: [{key: gpu, operator: Exists}]\n",
			"affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{}, {matchExpressions: [{key: a, operator: Exists}]}, {matchFields: [{key: metadata.name, operator: In, values: [x]}]}]}}}\n",
			"affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{}]}}}\n") +
		pick("", "hostUsers: false\n", "priority: 0\n")
	policy := pick("", ", annotations: {osn.infn.it/policy: shared}", ", annotations: {osn.infn.it/policy: private}", ", labels: {osn.infn.it/userid: "+bob+"}")
	metadata := "metadata: {name: " + pick("x", "y") + policy + "}\n"
	template := "template:\n  metadata: {labels: {app: w}" + pick("", ", annotations: {osn.infn.it/policy: shared}") + "}\n  spec:\n" + indent(spec, "    ")
	switch resource = pick("core/pods", "apps/deployments", "apps/daemonsets", "apps/statefulsets", "batch/jobs", "batch/cronjobs", "core/services"); resource {
	case "core/pods":
		return resource, parse(t, metadata+"spec:\n"+indent(spec, "  "))
	case "core/services":
		return resource, parse(t, metadata+"spec: {selector: {app: w}}")
	case "batch/jobs":
		return resource, parse(t, metadata+"spec:\n"+indent(template, "  "))
	case "batch/cronjobs":
		return resource, parse(t, metadata+"spec:\n  jobTemplate:\n    spec:\n"+indent(template, "      "))
	default:
		return resource, parse(t, metadata+"spec:\n  selector: {matchLabels: {app: w}}\n"+indent(template, "  ")+pick("", "  volumeClaimTemplates: [{metadata: {name: data}, spec: {}}]\n"))
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		request
		wantOwner, wantRefusal string
	}{
		"A57 core":            {request{by: system("system:kube-scheduler"), resource: "core/events", object: parse(t, "metadata: {name: e}\ninvolvedObject: {apiVersion: v1, kind: Pod, name: mine, uid: pods/mine}")}, alice, ""},
		"A57 events.k8s.io":   {request{by: system("system:kube-scheduler"), resource: "events.k8s.io/events", object: parse(t, "metadata: {name: e}\nregarding: {apiVersion: v1, kind: Pod, name: bobs, uid: pods/bobs}")}, bob, ""},
		"without UID":         {request{by: system("system:kube-scheduler"), resource: "core/events", object: parse(t, "metadata: {name: e}\ninvolvedObject: {apiVersion: v1, kind: Pod, name: mine}")}, alice, ""},
		"unknown":             {request{by: system("system:kube-scheduler"), resource: "core/events", object: of(bob, parse(t, "metadata: {name: e}\ninvolvedObject: {kind: Pod, name: gone, uid: gone}"))}, "", ""},
		"node, its own pod":   {request{by: system("system:node:n1", "system:nodes"), resource: "core/events", object: parse(t, "metadata: {name: e}\ninvolvedObject: {apiVersion: v1, kind: Pod, name: here, uid: here}")}, bob, ""},
		"node, another's pod": {request{by: system("system:node:n2", "system:nodes"), resource: "core/events", object: parse(t, "metadata: {name: e}\ninvolvedObject: {apiVersion: v1, kind: Pod, name: here, uid: here}")}, bob, "the pod of the event does not run on this node"},
		"node, its own claim": {request{by: system("system:node:n1", "system:nodes"), resource: "core/events", object: parse(t, "metadata: {name: e}\ninvolvedObject: {apiVersion: v1, kind: PersistentVolumeClaim, name: bobs, uid: persistentvolumeclaims/bobs}")}, bob, ""},
		"node, another claim": {request{by: system("system:node:n2", "system:nodes"), resource: "core/events", object: parse(t, "metadata: {name: e}\ninvolvedObject: {apiVersion: v1, kind: PersistentVolumeClaim, name: bobs, uid: persistentvolumeclaims/bobs}")}, bob, "the object of the event is used by no pod on this node"},
		"node, a Deployment":  {request{by: system("system:node:n1", "system:nodes"), resource: "core/events", object: parse(t, "metadata: {name: e}\ninvolvedObject: {apiVersion: apps/v1, kind: Deployment, name: bobs, uid: deployments/bobs}")}, bob, "the object of the event is used by no pod on this node"},
		"a user":              {request{by: user(alice), resource: "core/events", object: parse(t, "metadata: {name: e}\ninvolvedObject: {}")}, alice, "events cannot be changed by users"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.index.Put(&admission.Object{Key: key("", "pods", "here"), UID: "here", Owner: tenant.Owner{UserID: bob}, Node: "n1", References: []admission.Key{key("", "persistentvolumeclaims", "bobs")}})
			after, response := w.decide(t, test.request)
			assert.Equal(t, test.wantRefusal, refused(response))
			assert.Equal(t, test.wantOwner, labelsOf(after)[tenant.LabelUserID])
		})
	}
}

// TestEventsAreNotRewritten has a node write into an event about what runs elsewhere, and make it one about what runs there.
func TestEventsAreNotRewritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, node := range map[string]string{"here": "n1", "there": "n2"} {
		w.index.Put(&admission.Object{Key: key("", "pods", name), UID: types.UID(name), Owner: tenant.Owner{UserID: bob}, Node: node})
	}
	about := func(pod string) object {
		return of(bob, parse(t, "metadata: {name: e}\ninvolvedObject: {apiVersion: v1, kind: Pod, name: "+pod+", uid: "+pod+"}"))
	}
	for name, test := range map[string]struct {
		node     string
		old, now object
		want     string
	}{
		"its own":             {"n1", about("here"), about("here"), ""},
		"another's":           {"n2", about("here"), about("here"), "the pod of the event does not run on this node"},
		"another's, made own": {"n2", about("here"), about("there"), "the pod of the event does not run on this node"},
		"own, made another's": {"n2", about("there"), about("here"), "the pod of the event does not run on this node"},
	} {
		_, response := w.decide(t, request{by: system("system:node:"+test.node, "system:nodes"), operation: admissionv1.Update, resource: "core/events", object: test.now, old: test.old})
		assert.Equal(t, test.want, refused(response), name)
	}
}

func TestDefaultTokens(t *testing.T) {
	t.Parallel()
	const injected = "volumes: [{name: kube-api-access-abc, projected: {sources: []}}, {name: kube, emptyDir: {}}]\ninitContainers: [{name: i, volumeMounts: [{name: kube-api-access-abc, mountPath: /x}]}]"
	after, response := newWorld(t).decide(t, request{by: user(alice), resource: "core/pods", object: pod(t, injected)})
	require.Empty(t, refused(response))
	spec, _ := after["spec"].(object)
	assert.Equal(t, false, spec["automountServiceAccountToken"])
	assert.Equal(t, false, spec["enableServiceLinks"])
	assert.Equal(t, []any{object{"name": "kube", "emptyDir": object{}}}, spec["volumes"])
	assert.Equal(t, []any{object{"name": "i"}}, spec["initContainers"])

	own, response := newWorld(t).decide(t, request{by: user(alice), resource: "core/pods", object: pod(t, injected+"\nserviceAccountName: mine")})
	require.Empty(t, refused(response))
	spec, _ = own["spec"].(object)
	assert.Len(t, spec["volumes"], 2)
	assert.NotContains(t, maps.Collect(maps.All(spec)), "automountServiceAccountToken")
}
