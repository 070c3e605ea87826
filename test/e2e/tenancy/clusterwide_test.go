// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/cloudveneto/caas/internal/lab/network"
)

func clusterAttacks() []attack {
	return []attack{
		{name: "A47 Roles and RoleBindings", run: roles},
		{name: "A48 objects of the cluster", run: clusterObjects},
		{name: "A58 a custom resource that is not enabled", run: customResource},
		{name: "A71 an aggregated API that ignores selectors", run: aggregatedAPI},
	}
}

func roles(t *testing.T, w *world) {
	rule := "rules: [{apiGroups: [''], resources: [secrets], verbs: [get, list]}]"
	subject := "subjects: [{kind: ServiceAccount, name: sa-a, namespace: cms}]"
	bindings := func(kind, role string) string {
		return "{metadata: {name: x}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: " + kind + ", name: " + role + "}, " + subject + "}"
	}
	const rbac = "rbac.authorization.k8s.io/v1/"
	for path, object := range map[string]string{
		rbac + "roles":                          "{metadata: {name: x}, " + rule + "}",
		rbac + "rolebindings":                   bindings("ClusterRole", "cluster-admin"),
		rbac + "rolebindings?x=1":               bindings("ClusterRole", "mt-tenant"),
		"/apis/" + rbac + "clusterroles":        "{metadata: {name: x}, " + rule + "}",
		"/apis/" + rbac + "clusterrolebindings": bindings("ClusterRole", "cluster-admin"),
	} {
		w.alice.denied(t, "mt: ", http.MethodPost, path, object)
		w.mona.denied(t, "mt: ", http.MethodPost, path, object)
	}
	for _, verb := range []string{"escalate", "bind", "update", "create", "delete"} {
		for _, resource := range []string{"roles", "rolebindings", "clusterroles", "clusterrolebindings"} {
			assert.False(t, w.may(t, w.alice, verb, rbacv1.GroupName, resource, "mt-tenant"), "%s %s", verb, resource)
		}
	}
	w.alice.denied(t, "mt: ", http.MethodPatch, rbac+"rolebindings/mt-tenant", "{subjects: []}", "Content-Type", mergePatch)
	w.alice.denied(t, "mt: ", http.MethodDelete, rbac+"rolebindings/mt-tenant", "")
	assert.Contains(t, w.alice.gets(t, rbac+"rolebindings").names(t), "mt-tenant", "they may be read")
}

func clusterObjects(t *testing.T, w *world) {
	for path, object := range map[string]string{
		"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations": "{metadata: {name: x}}",
		"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations":   "{metadata: {name: x}}",
		"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies":     "{metadata: {name: x}}",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions":               "{metadata: {name: x}}",
		"/apis/apiregistration.k8s.io/v1/apiservices":                           "{metadata: {name: x}}",
		"/apis/certificates.k8s.io/v1/certificatesigningrequests":               "{metadata: {name: x}, spec: {request: '', signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}",
		"/apis/scheduling.k8s.io/v1/priorityclasses":                            "{metadata: {name: x}, value: 1000}",
		"/apis/storage.k8s.io/v1/storageclasses":                                "{metadata: {name: x}, provisioner: x}",
		"/apis/node.k8s.io/v1/runtimeclasses":                                   "{metadata: {name: x}, handler: x}",
		"/apis/authentication.k8s.io/v1/tokenreviews":                           "{spec: {token: x}}",
		"/apis/authorization.k8s.io/v1/subjectaccessreviews":                    "{spec: {user: bob, resourceAttributes: {verb: get, resource: secrets}}}",
		"/api/v1/namespaces":        "{metadata: {name: x}}",
		"/api/v1/nodes":             "{metadata: {name: x}}",
		"/api/v1/persistentvolumes": "{metadata: {name: x}}",
		"authorization.k8s.io/v1/localsubjectaccessreviews": "{metadata: {namespace: cms}, spec: {user: bob, resourceAttributes: {verb: get, namespace: cms, resource: secrets}}}",
		"coordination.k8s.io/v1/leases":                     "{metadata: {name: x}}",
		"v1/resourcequotas":                                 "{metadata: {name: x}}",
		"v1/limitranges":                                    "{metadata: {name: x}}",
		"v1/podtemplates":                                   "{metadata: {name: x}, template: {}}",
		"apps/v1/controllerrevisions":                       "{metadata: {name: x}, revision: 1}",
	} {
		w.alice.denied(t, "mt: ", http.MethodPost, path, object)
	}
	for _, path := range []string{
		"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/kube-mt-admission", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kube-mt-admission",
		"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/kube-mt-pods", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/kube-mt-pods",
		"/api/v1/namespaces/cms", "/api/v1/nodes/" + aliceNode, "/api/v1/namespaces/kube-system",
	} {
		check := w.untouched(t, path)
		w.alice.denied(t, "mt: ", http.MethodPatch, path, "{metadata: {labels: {a: b}}}", "Content-Type", mergePatch)
		w.alice.denied(t, "mt: ", http.MethodDelete, path, "")
		check()
	}
	w.alice.gets(t, "/apis/storage.k8s.io/v1/storageclasses")
	w.alice.gets(t, "/api/v1/namespaces/cms")
	w.alice.denied(t, "mt: ", http.MethodGet, "/api/v1/namespaces/qst", "")
	w.alice.denied(t, "mt: ", http.MethodGet, "/api/v1/nodes/"+bobNode, "")
}

const gadgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.org}
spec:
  group: example.org
  names: {kind: Gadget, plural: gadgets, singular: gadget}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`

func customResource(t *testing.T, w *world) {
	got := w.root.do(t, http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", gadgets)
	require.Contains(t, []int{http.StatusCreated, http.StatusConflict}, got.code, "%s", got.body)
	require.NoError(t, w.grant(t.Context(), "e2e-gadgets", rbacv1.PolicyRule{APIGroups: []string{"example.org"}, Resources: []string{"*"}, Verbs: []string{"*"}}))
	const path = "example.org/v1/gadgets"
	name := unique("a58")
	eventually(t, "the kind is served", func() bool {
		return w.root.do(t, http.MethodPost, path, "{apiVersion: example.org/v1, kind: Gadget, metadata: {name: "+name+", labels: {"+ownerKey+": "+w.alice.id+"}}}").code == http.StatusCreated
	})
	const refused = "mt: this kind of object is not for tenants"
	for _, who := range []person{w.alice, w.mona} {
		who.denied(t, refused, http.MethodGet, path, "")
		who.denied(t, refused, http.MethodGet, path+"?labelSelector="+who.own(), "")
		who.denied(t, refused, http.MethodGet, path+"/"+name, "")
		who.denied(t, refused, http.MethodPost, path, "{apiVersion: example.org/v1, kind: Gadget, metadata: {name: x}}")
		who.denied(t, refused, http.MethodDelete, path+"/"+name, "")
		who.denied(t, refused, http.MethodDelete, path+"?labelSelector="+who.own(), "")
	}
	w.root.gets(t, path+"/"+name)
	onlyOwn(t, w.alice, "v1/configmaps?labelSelector="+w.alice.own())
}

// aggregatedAPI registers an API server that shows everything to everybody, whatever is selected.
func aggregatedAPI(t *testing.T, w *world) {
	const group, port = "leaky.example.org", 9555
	listener, err := network.Listen(t.Context(), w.lab.NetNS(), "tcp", "10.88.0.1:"+strconv.Itoa(port))
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/apis/"+group+"/v1" {
			_, _ = io.WriteString(out, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"`+group+`/v1","resources":[{"name":"things","namespaced":true,"kind":"Thing","verbs":["get","list"]}]}`)
			return
		}
		_, _ = io.WriteString(out, `{"apiVersion":"`+group+`/v1","kind":"ThingList","items":[{"metadata":{"name":"`+w.marker+`"}}]}`)
	})}
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ServeTLS(listener, w.file("oidc.crt"), w.file("oidc.key")) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	w.root.do(t, http.MethodPost, "/api/v1/namespaces/default/services", "{metadata: {name: leaky}, spec: {type: ExternalName, externalName: 10.88.0.1, ports: [{port: "+strconv.Itoa(port)+"}]}}")
	w.root.do(t, http.MethodPost, "/apis/apiregistration.k8s.io/v1/apiservices", "{metadata: {name: v1."+group+"}, spec: {group: "+group+
		", version: v1, groupPriorityMinimum: 100, versionPriority: 10, insecureSkipTLSVerify: true, service: {namespace: default, name: leaky, port: "+strconv.Itoa(port)+"}}}")
	root := w.root
	t.Cleanup(func() {
		for _, path := range []string{"/apis/apiregistration.k8s.io/v1/apiservices/v1." + group, "/api/v1/namespaces/default/services/leaky"} {
			_, _ = root.try(context.WithoutCancel(t.Context()), http.MethodDelete, path, "")
		}
	})
	require.NoError(t, w.grant(t.Context(), "e2e-leaky", rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{"*"}, Verbs: []string{"*"}}))
	path := group + "/v1/things"
	eventually(t, "the API is there, and shows all", func() bool {
		return w.root.do(t, http.MethodGet, path+"?labelSelector="+w.alice.own(), "").code == http.StatusOK
	})
	const refused = "mt: this kind of object is not for tenants"
	for _, query := range []string{"", "?labelSelector=" + w.alice.own(), "/x"} {
		w.alice.denied(t, refused, http.MethodGet, path+query, "")
		got := w.alice.proxied().do(t, http.MethodGet, path+query, "")
		assert.Equal(t, http.StatusForbidden, got.code, "%s", got.body)
	}
	// Of the aggregated APIs, the policy enables that of metrics-server. A cluster without one has nothing to show.
	got := w.alice.do(t, http.MethodGet, "metrics.k8s.io/v1beta1/pods", "")
	assert.Equal(t, http.StatusForbidden, got.code, "%s", got.body)
	got = w.alice.do(t, http.MethodGet, "metrics.k8s.io/v1beta1/pods?labelSelector="+w.alice.own(), "")
	assert.Equal(t, http.StatusNotFound, got.code, "%s", got.body)
}
