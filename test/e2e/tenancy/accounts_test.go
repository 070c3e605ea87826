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

func accountAttacks() []attack {
	return []attack{
		{name: "A30 tokens of ServiceAccounts", run: accountTokens},
		{name: "A31 a Secret that Kubernetes fills with Bob's token", run: tokenSecret},
		{name: "A32 pod with Bob's ServiceAccount", run: othersAccount},
		{name: "A59 ServiceAccounts of the same name in two projects", run: sameAccount},
	}
}

const tokenRequest = "{apiVersion: authentication.k8s.io/v1, kind: TokenRequest, spec: {expirationSeconds: 3600}}"

func accountTokens(t *testing.T, w *world) {
	w.alice.denied(t, "mt: ", http.MethodPost, "v1/serviceaccounts/default/token", tokenRequest)
	w.alice.denied(t, notYours, http.MethodPost, "v1/serviceaccounts/sa-b/token", tokenRequest)
	w.alice.denied(t, notYours, http.MethodPost, "v1/serviceaccounts/nobody/token", tokenRequest)
	out, err := w.alice.proxied().tries(t, "create", "token", "sa-b")
	require.Error(t, err)
	assert.Contains(t, out, `"sa-b" not found`)

	robot := w.bearer("Alice's robot", w.tokenOf(t, w.alice, "sa-a"))
	robot.id = w.alice.id
	robot.gets(t, "v1/secrets/s-a")
	onlyOwn(t, robot, "v1/secrets?labelSelector="+w.alice.own())
	robot.denied(t, notYours, http.MethodGet, "v1/secrets/s-b", "")
	robot.denied(t, selectYours+w.alice.id, http.MethodGet, "v1/secrets", "")
	robot.denied(t, notYours, http.MethodDelete, "v1/pods/p-b", "")
	owned(t, w.alice, robot.creates(t, "v1/configmaps", "{metadata: {name: "+unique("a30")+", labels: "+w.forged()+"}}").GetLabels())
	robot.denied(t, notMine, http.MethodPost, "v1/pods", "{metadata: {name: "+unique("a30")+"}, spec: {serviceAccountName: sa-b, containers: [{name: a, image: b}]}}")
}

// tokenOf is a new token of a ServiceAccount.
func (w *world) tokenOf(t *testing.T, owner person, account string) string {
	t.Helper()
	got := owner.do(t, http.MethodPost, "v1/serviceaccounts/"+account+"/token", tokenRequest)
	require.Equal(t, http.StatusCreated, got.code, "%s", got.body)
	token, _, _ := unstructured.NestedString(got.object.Object, "status", "token")
	require.NotEmpty(t, token)
	return token
}

func tokenSecret(t *testing.T, w *world) {
	for _, account := range []string{"sa-b", "sa-a", "default"} {
		w.alice.denied(t, "a Secret of type kubernetes.io/service-account-token is not allowed; use kubectl create token", http.MethodPost, "v1/secrets",
			"{metadata: {name: "+unique("a31")+", annotations: {kubernetes.io/service-account.name: "+account+"}}, type: kubernetes.io/service-account-token}")
	}
	name := unique("a31")
	manifest := writeFile(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: "+name+", annotations: {kubernetes.io/service-account.name: sa-b}}\ntype: kubernetes.io/service-account-token\n")
	_, err := w.alice.tries(t, "apply", "--server-side", "-f", manifest)
	require.Error(t, err)
	assert.Equal(t, http.StatusNotFound, w.root.do(t, http.MethodGet, "v1/secrets/"+name, "").code)
	// A Secret does not become one later, either.
	w.alice.creates(t, "v1/secrets", "{metadata: {name: "+name+"}}")
	got := w.alice.patches(t, "v1/secrets/"+name, "{metadata: {annotations: {kubernetes.io/service-account.name: sa-b}}, type: kubernetes.io/service-account-token}")
	assert.Contains(t, []int{http.StatusForbidden, http.StatusUnprocessableEntity}, got.code, "%s", got.body)
	assert.Empty(t, w.root.gets(t, "v1/secrets/"+name).object.Object["data"])
}

func othersAccount(t *testing.T, w *world) {
	for _, field := range []string{"serviceAccountName", "serviceAccount"} {
		w.alice.denied(t, `serviceaccounts "sa-b": `+notMine, http.MethodPost, "v1/pods", pauses(unique("a32"), ", "+field+": sa-b"))
	}
	// A Deployment's pods are refused when they are made.
	w.alice.denied(t, `serviceaccounts "sa-b": `+notMine, http.MethodPost, "apps/v1/deployments", "{metadata: {name: "+unique("a32")+
		"}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {serviceAccountName: sa-b, containers: [{name: a, image: b}]}}}}")
	made := w.alice.creates(t, "v1/pods", pauses(unique("a32"), ", serviceAccountName: sa-a, nodeSelector: {no: where}"))
	account, _, _ := unstructured.NestedString(made.Object, "spec", "serviceAccountName")
	assert.Equal(t, "sa-a", account)
}

func sameAccount(t *testing.T, w *world) {
	name := unique("a59")
	for _, owner := range []person{w.alice, w.dave} {
		owner.creates(t, "v1/serviceaccounts", "{metadata: {name: "+name+"}}")
	}
	here, there := w.bearer("robot of cms", w.tokenOf(t, w.alice, name)), w.bearer("robot of qst", w.tokenOf(t, w.dave, name))
	there.namespace = qst
	here.gets(t, "v1/serviceaccounts/"+name)
	there.gets(t, "v1/serviceaccounts/"+name)
	here.namespace, there.namespace = qst, cms
	for _, robot := range []person{here, there} {
		for _, path := range []string{"v1/serviceaccounts/" + name, "v1/secrets/s-a", "v1/secrets", "v1/secrets?labelSelector=" + w.alice.own(), "v1/secrets?labelSelector=" + w.dave.own()} {
			robot.denied(t, "mt: not a namespace of your project", http.MethodGet, path, "")
		}
		robot.denied(t, "mt: not a namespace of your project", http.MethodPost, "v1/configmaps", "{metadata: {name: x}}")
	}
	// A new account of the same name is another one.
	old := w.bearer("robot of old", w.tokenOf(t, w.alice, name))
	w.alice.removes(t, "v1/serviceaccounts/"+name)
	w.alice.creates(t, "v1/serviceaccounts", "{metadata: {name: "+name+"}}")
	got := old.do(t, http.MethodGet, "v1/secrets/s-a", "")
	assert.Contains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, got.code, "%s", got.body)
}
