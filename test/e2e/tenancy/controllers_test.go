// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func controllerAttacks() []attack {
	return []attack{
		{name: "A40 owner references to what is Bob's", run: ownerReferences},
		{name: "A41 adoption of Bob's pods", run: adopt},
		{name: "A42 labels and selectors of Services", run: services},
		{name: "A43 Endpoints and EndpointSlices", run: endpoints},
		{name: "A44 autoscalers, disruption budgets and network policies for Bob's", run: aimAtBob},
		{name: "A45 Ingresses with what is Bob's", run: ingresses},
	}
}

func ownerReferences(t *testing.T, w *world) {
	uid := func(path string) string { return string(w.root.gets(t, path).object.GetUID()) }
	for path, reference := range map[string]string{
		"apps/v1/deployments/d-b":     "apiVersion: apps/v1, kind: Deployment, name: d-b",
		"v1/pods/p-b":                 "apiVersion: v1, kind: Pod, name: p-b",
		"v1/secrets/s-b":              "apiVersion: v1, kind: Secret, name: s-b",
		"/api/v1/nodes/" + bobNode:    "apiVersion: v1, kind: Node, name: " + bobNode,
		"/api/v1/namespaces/cms":      "apiVersion: v1, kind: Namespace, name: cms",
		"apps/v1/deployments/d-a":     "apiVersion: apps/v1, kind: Deployment, name: d-b", // Bob's name with Alice's UID
		"apps/v1/deployments/d-b?x=1": "apiVersion: apps/v1, kind: Deployment, name: d-a", // and the other way round
	} {
		for _, more := range []string{"", ", controller: true", ", blockOwnerDeletion: true"} {
			references := "ownerReferences: [{" + reference + ", uid: " + uid(path) + more + "}]"
			w.alice.denied(t, notMine, http.MethodPost, "v1/configmaps", "{metadata: {name: "+unique("a40")+", "+references+"}}")
			w.alice.denied(t, notMine, http.MethodPost, "v1/pods", "{metadata: {name: "+unique("a40")+", "+references+"}, spec: {containers: [{name: a, image: b}]}}")
			got := w.alice.patches(t, "v1/configmaps/c-a", "{metadata: {"+references+"}}")
			assert.Equal(t, http.StatusForbidden, got.code, "%s", got.body)
		}
	}
	w.alice.denied(t, notMine, http.MethodPost, "v1/configmaps", "{metadata: {name: "+unique("a40")+", ownerReferences: [{apiVersion: v1, kind: Pod, name: x, uid: x}]}}")
	w.alice.creates(t, "v1/configmaps", "{metadata: {name: "+unique("a40")+", ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: d-a, uid: "+uid("apps/v1/deployments/d-a")+"}]}}")
}

func adopt(t *testing.T, w *world) {
	name := unique("a41")
	w.bob.creates(t, "v1/pods", "{metadata: {name: "+name+"-bob, labels: {app: "+name+"}}, spec: {nodeSelector: {no: where}, containers: [{name: a, image: busybox}]}}")
	template := "template: {metadata: {labels: {app: " + name + "}}, spec: {nodeSelector: {no: where}, containers: [{name: a, image: busybox}]}}"
	for resource, object := range map[string]string{
		"apps/v1/replicasets":       "spec: {replicas: 1, selector: {matchLabels: {app: " + name + "}}, " + template + "}",
		"apps/v1/deployments":       "spec: {replicas: 1, selector: {matchExpressions: [{key: app, operator: Exists}]}, " + template + "}",
		"apps/v1/statefulsets":      "spec: {serviceName: x, replicas: 1, selector: {matchLabels: {app: " + name + "}}, " + template + "}",
		"v1/replicationcontrollers": "spec: {replicas: 1, selector: {app: " + name + "}, " + template + "}",
	} {
		made := w.alice.creates(t, resource, "{metadata: {name: "+name+"}, "+object+"}")
		selector, _, _ := unstructured.NestedMap(made.Object, "spec", "selector")
		if labels, is := selector["matchLabels"].(map[string]any); is {
			selector = labels
		}
		assert.Equal(t, w.alice.id, selector[ownerKey], "%s selects only what is Alice's: %v", resource, selector)
	}
	w.alice.denied(t, "spec.manualSelector is not allowed", http.MethodPost, "batch/v1/jobs",
		"{metadata: {name: "+name+"}, spec: {manualSelector: true, selector: {matchLabels: {app: "+name+"}}, template: {metadata: {labels: {app: "+name+
			"}}, spec: {restartPolicy: Never, containers: [{name: a, image: busybox}]}}}}")
	eventually(t, "Alice's controllers have pods of their own", func() bool {
		return len(w.root.gets(t, "v1/pods?labelSelector=app%3D"+name).items(t)) == 5
	})
	for _, pod := range w.root.gets(t, "v1/pods?labelSelector=app%3D"+name).items(t) {
		if pod.GetName() == name+"-bob" {
			assert.Empty(t, pod.GetOwnerReferences(), "Bob's pod is nobody's else")
			owned(t, w.bob, pod.GetLabels())
		} else {
			owned(t, w.alice, pod.GetLabels())
		}
	}
	for _, resource := range []string{"apps/v1/replicasets", "apps/v1/deployments", "apps/v1/statefulsets", "v1/replicationcontrollers"} {
		w.alice.removes(t, resource+"/"+name+"?propagationPolicy=Foreground")
	}
	stays(t, "Bob's pod outlives them", func() bool {
		return w.root.do(t, http.MethodGet, "v1/pods/"+name+"-bob", "").code == http.StatusOK
	})
}

func services(t *testing.T, w *world) {
	name := unique("a42")
	for _, who := range []person{w.alice, w.bob} {
		who.creates(t, "v1/services", "{metadata: {name: "+name+"-"+who.name+"}, spec: {selector: {app: "+name+"}, ports: [{port: 80}]}}")
		who.creates(t, "v1/pods", "{metadata: {name: "+name+"-"+who.name+", labels: {app: "+name+"}}, spec: {terminationGracePeriodSeconds: 0, containers: "+
			"[{name: a, image: '"+busybox+"', command: [sleep, infinity]}]}}")
	}
	for _, who := range []person{w.alice, w.bob} {
		ip := ""
		eventually(t, who.name+"'s pod runs", func() bool {
			ip, _, _ = unstructured.NestedString(who.gets(t, "v1/pods/"+name+"-"+who.name).object.Object, "status", "podIP")
			return ip != ""
		})
		eventually(t, who.name+"'s Service has the pod", func() bool { return len(w.behind(t, name+"-"+who.name)) > 0 })
		assert.Equal(t, []string{ip}, w.behind(t, name+"-"+who.name), "and no other")
	}
	// A Service that selects Bob's pods by their own labels.
	w.alice.creates(t, "v1/services", "{metadata: {name: "+name+"-2}, spec: {selector: {app: web-b}, ports: [{port: 80, targetPort: 8080}]}}")
	got := w.alice.patches(t, "v1/services/"+name+"-alice", "{spec: {selector: {app: web-b, "+ownerKey+": "+w.bob.id+"}}}")
	assert.Contains(t, []int{http.StatusOK, http.StatusForbidden}, got.code, "%s", got.body)
	got = w.alice.patches(t, "v1/services/"+name+"-2", "{spec: {selector: {"+ownerKey+": null}}}")
	assert.Contains(t, []int{http.StatusOK, http.StatusForbidden}, got.code, "%s", got.body)
	stays(t, "no pod of Bob's is behind it", func() bool { return len(w.behind(t, name+"-2")) == 0 })
	w.alice.denied(t, "spec.externalIPs is not allowed", http.MethodPost, "v1/services", "{metadata: {name: "+name+"-3}, spec: {ports: [{port: 80}], externalIPs: [192.0.2.1]}}")
	for _, kind := range []string{"NodePort", "LoadBalancer", "ExternalName, externalName: svc-b.cms.svc"} {
		w.alice.denied(t, "is not allowed", http.MethodPost, "v1/services", "{metadata: {name: "+name+"-3}, spec: {ports: [{port: 80}], type: "+kind+"}}")
	}
	for _, who := range []person{w.alice, w.bob} {
		who.removes(t, "v1/pods/"+name+"-"+who.name)
	}
}

// behind are the addresses that a Service leads to.
func (w *world) behind(t *testing.T, service string) []string {
	t.Helper()
	var all []string
	for _, slice := range w.root.gets(t, "discovery.k8s.io/v1/endpointslices?labelSelector=kubernetes.io/service-name%3D"+service).items(t) {
		list, _, _ := unstructured.NestedSlice(slice.Object, "endpoints")
		for _, one := range list {
			addresses, _, _ := unstructured.NestedStringSlice(one.(map[string]any), "addresses")
			all = append(all, addresses...)
		}
	}
	return all
}

func endpoints(t *testing.T, w *world) {
	slices := w.root.gets(t, "discovery.k8s.io/v1/endpointslices?labelSelector=kubernetes.io/service-name%3Dsvc-b").names(t)
	require.NotEmpty(t, slices)
	own := w.root.gets(t, "discovery.k8s.io/v1/endpointslices?labelSelector=kubernetes.io/service-name%3Dsvc-a").names(t)
	require.NotEmpty(t, own)
	const readOnly = "mt: this kind of object is read-only for tenants"
	for path, object := range map[string]string{
		"discovery.k8s.io/v1/endpointslices": "{metadata: {name: x, labels: {kubernetes.io/service-name: svc-b}}, addressType: IPv4, endpoints: [{addresses: [10.88.0.1]}], ports: [{port: 80}]}",
		"v1/endpoints":                       "{metadata: {name: svc-b}, subsets: [{addresses: [{ip: 10.88.0.1}], ports: [{port: 80}]}]}",
	} {
		w.alice.denied(t, readOnly, http.MethodPost, path, object)
	}
	for _, path := range []string{"discovery.k8s.io/v1/endpointslices/" + slices[0], "discovery.k8s.io/v1/endpointslices/" + own[0], "v1/endpoints/svc-b", "v1/endpoints/svc-a"} {
		check := w.untouched(t, path)
		w.alice.denied(t, readOnly, http.MethodPatch, path, "{metadata: {labels: {a: b}}}", "Content-Type", mergePatch)
		w.alice.denied(t, readOnly, http.MethodDelete, path, "")
		check()
	}
	w.alice.denied(t, notYours, http.MethodGet, "discovery.k8s.io/v1/endpointslices/"+slices[0], "")
	w.alice.gets(t, "discovery.k8s.io/v1/endpointslices/"+own[0])
	w.bob.gets(t, "discovery.k8s.io/v1/endpointslices/"+slices[0])
}

func aimAtBob(t *testing.T, w *world) {
	w.alice.denied(t, `spec.scaleTargetRef: deployments.apps "d-b": `+notMine, http.MethodPost, "autoscaling/v2/horizontalpodautoscalers",
		"{metadata: {name: "+unique("a44")+"}, spec: {maxReplicas: 9, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d-b}}}")
	w.alice.denied(t, `describedObject: services "svc-b": `+notMine, http.MethodPost, "autoscaling/v2/horizontalpodautoscalers",
		"{metadata: {name: "+unique("a44")+"}, spec: {maxReplicas: 9, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d-a}, metrics: [{type: Object, object: {metric: {name: x}, target: {type: Value, value: 1}, describedObject: {apiVersion: v1, kind: Service, name: svc-b}}}]}}")
	got := w.alice.patches(t, "autoscaling/v2/horizontalpodautoscalers/h-a", "{spec: {scaleTargetRef: {name: d-b}}}")
	assert.Equal(t, http.StatusForbidden, got.code, "%s", got.body)
	got = w.alice.do(t, http.MethodPost, "/apis/autoscaling.k8s.io/v1/namespaces/cms/verticalpodautoscalers", "{metadata: {name: x}}")
	assert.Contains(t, []int{http.StatusForbidden, http.StatusNotFound}, got.code, "%s", got.body)

	name := unique("a44")
	for _, selector := range []string{"{matchLabels: {app: web-b}}", "{}", "{matchExpressions: [{key: app, operator: Exists}]}", "{matchLabels: {" + ownerKey + ": " + w.bob.id + "}}"} {
		budget := w.alice.creates(t, "policy/v1/poddisruptionbudgets", "{metadata: {name: "+unique(name)+"}, spec: {maxUnavailable: 0, selector: "+selector+"}}")
		value, _, _ := unstructured.NestedString(budget.Object, "spec", "selector", "matchLabels", ownerKey)
		assert.Equal(t, w.alice.id, value)
		rule := w.alice.creates(t, "networking.k8s.io/v1/networkpolicies", "{metadata: {name: "+unique(name)+"}, spec: {podSelector: "+selector+", policyTypes: [Ingress], ingress: [{from: [{podSelector: "+selector+"}]}]}}")
		value, _, _ = unstructured.NestedString(rule.Object, "spec", "podSelector", "matchLabels", ownerKey)
		assert.Equal(t, w.alice.id, value)
		from, _, _ := unstructured.NestedSlice(rule.Object, "spec", "ingress")
		peers, _, _ := unstructured.NestedSlice(from[0].(map[string]any), "from")
		value, _, _ = unstructured.NestedString(peers[0].(map[string]any), "podSelector", "matchLabels", ownerKey)
		assert.Equal(t, w.alice.id, value)
		got := w.alice.patches(t, "policy/v1/poddisruptionbudgets/"+budget.GetName(), "{spec: {selector: {matchLabels: {"+ownerKey+": "+w.bob.id+"}}}}")
		if got.code == http.StatusOK {
			value, _, _ = unstructured.NestedString(got.object.Object, "spec", "selector", "matchLabels", ownerKey)
			assert.Equal(t, w.alice.id, value)
		}
		got = w.alice.patches(t, "networking.k8s.io/v1/networkpolicies/"+rule.GetName(), "{spec: {podSelector: {matchLabels: {"+ownerKey+": null}}}}")
		if got.code == http.StatusOK {
			value, _, _ = unstructured.NestedString(got.object.Object, "spec", "podSelector", "matchLabels", ownerKey)
			assert.Equal(t, w.alice.id, value)
		}
		w.alice.removes(t, "networking.k8s.io/v1/networkpolicies/"+rule.GetName())
	}
	w.alice.denied(t, notYours, http.MethodPatch, "apps/v1/deployments/d-b/scale", "{spec: {replicas: 5}}", "Content-Type", mergePatch)
	bobs := unique("a44")
	w.bob.creates(t, "v1/pods", pauses(bobs, ", nodeSelector: {no: where}"))
	got = w.bob.do(t, http.MethodPost, "v1/pods/"+bobs+"/eviction", "{apiVersion: policy/v1, kind: Eviction, metadata: {name: "+bobs+"}}")
	assert.Equal(t, http.StatusCreated, got.code, "Alice's budgets hold nothing of Bob's: %s", got.body)
}

func ingresses(t *testing.T, w *world) {
	rule := func(host, service string) string {
		return "rules: [{host: " + host + ", http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: " + service + ", port: {number: 80}}}}]}}]"
	}
	for _, one := range []struct{ meta, spec, words string }{
		{"", rule("a45.example.org", "svc-a") + ", tls: [{hosts: [a45.example.org], secretName: s-b}]", `spec.tls[0].secretName: secrets "s-b": ` + notMine},
		{"", rule("a45.example.org", "svc-b"), `backend.service: services "svc-b": ` + notMine},
		{"", "defaultBackend: {service: {name: svc-b, port: {number: 80}}}", `spec.defaultBackend.service: services "svc-b": ` + notMine},
		{"", "defaultBackend: {resource: {kind: Secret, name: s-b}}", `spec.defaultBackend.resource: secrets "s-b": ` + notMine},
		{"", rule("b.example.org", "svc-a"), "b.example.org is served for somebody else"},
		{"nginx.ingress.kubernetes.io/configuration-snippet: x", rule("a45.example.org", "svc-a"), "is not allowed"},
		{"nginx.ingress.kubernetes.io/auth-secret: cms/s-b", rule("a45.example.org", "svc-a"), "is not allowed"},
		{"nginx.ingress.kubernetes.io/server-snippet: x", rule("a45.example.org", "svc-a"), "is not allowed"},
		{"traefik.ingress.kubernetes.io/router.middlewares: x", rule("a45.example.org", "svc-a"), "is not allowed"},
		{"haproxy.org/backend-config-snippet: x", rule("a45.example.org", "svc-a"), "is not allowed"},
	} {
		w.alice.denied(t, one.words, http.MethodPost, "networking.k8s.io/v1/ingresses", "{metadata: {name: "+unique("a45")+", annotations: {"+one.meta+"}}, spec: {"+one.spec+"}}")
	}
	got := w.alice.patches(t, "networking.k8s.io/v1/ingresses/i-a", "{spec: {tls: [{hosts: [a.example.org], secretName: s-b}]}}")
	assert.Equal(t, http.StatusForbidden, got.code, "%s", got.body)
	got = w.alice.patches(t, "networking.k8s.io/v1/ingresses/i-a", "{metadata: {annotations: {nginx.ingress.kubernetes.io/server-snippet: x}}}")
	assert.Equal(t, http.StatusForbidden, got.code, "%s", got.body)
	got = w.alice.patches(t, "networking.k8s.io/v1/ingresses/i-a", "{spec: {tls: [{hosts: [a.example.org], secretName: s-a}]}}")
	assert.Equal(t, http.StatusOK, got.code, "the own secret: %s", got.body)
}
