// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/programtest"
)

// TestTenancyKubectl uses kubectl as the user guide does, without a word about owners, through the proxy.
func TestTenancyKubectl(t *testing.T) {
	w := theWorld(t)
	t.Run("nothing is there", w.nothingThere)
	t.Run("one's own", w.onesOwn)
	t.Run("watch", w.kubectlWatches)
	t.Run("logs, exec and port-forward", w.streams)
	t.Run("a user of the OpenID provider", w.openID)
}

func (w *world) nothingThere(t *testing.T) {
	_, err := w.keystone.AddUser(t.Context(), "newcomer", openstack.CMS, openstack.QST)
	require.NoError(t, err)
	for project, namespace := range map[string]string{openstack.CMS: cms, openstack.QST: qst} {
		newcomer, err := w.login(t.Context(), "newcomer", project)
		require.NoError(t, err)
		for _, kind := range []string{"pods", "secrets", "deployments", "configmaps"} {
			assert.Equal(t, "No resources found in "+namespace+" namespace.\n", newcomer.proxied().kubectl(t, "get", kind))
		}
		_, err = newcomer.tries(t, "get", "pods")
		assert.Error(t, err, "that is the proxy's comfort: the API server wants the selector")
	}
}

func (w *world) onesOwn(t *testing.T) {
	for _, who := range []person{w.alice, w.bob} {
		me, suffix := who.proxied(), "-"+who.name[:1]
		for kind, name := range map[string]string{"pods": "p", "secrets": "s", "configmaps": "c", "services": "svc", "deployments": "d", "serviceaccounts": "sa"} {
			out := me.kubectl(t, "get", kind, "-o", "name")
			assert.Contains(t, out, "/"+name+suffix+"\n")
			for _, other := range []string{"-a", "-b"} {
				assert.Equal(t, other == suffix, strings.Contains(out, "/"+name+other+"\n"), "%s: %s", who.name, out)
			}
		}
		assert.Contains(t, me.kubectl(t, "get", "all"), "pod/p"+suffix)
		assert.Contains(t, me.kubectl(t, "describe", "pod", "p"+suffix), "Namespace:        cms")
		assert.Contains(t, me.kubectl(t, "get", "pods", "-o", "wide", "-l", "app=web"+suffix), "Running")
		assert.Contains(t, me.kubectl(t, "get", "events"), "pod/p"+suffix)
	}
	out := w.alice.proxied().kubectl(t, "get", "nodes", "-o", "name")
	assert.Equal(t, "node/"+sharedNode+"\nnode/"+aliceNode+"\n", out, "the own nodes and the project's")
}

func (w *world) kubectlWatches(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	command := w.alice.proxied().command(ctx, t, "get", "configmaps", "-w", "-o", "name")
	var out programtest.Output
	command.Stdout, command.Stderr = &out, &out
	require.NoError(t, command.Start())
	defer func() { cancel(); _ = command.Wait() }()
	eventually(t, "the watch shows what is there", func() bool { return strings.Contains(out.String(), "configmap/c-a\n") })
	name := unique("watched")
	w.bob.creates(t, "v1/configmaps", "{metadata: {name: "+name+"-bob}, data: {of: "+w.marker+"}}")
	w.alice.creates(t, "v1/configmaps", "{metadata: {name: "+name+"-alice}}")
	eventually(t, "it shows what is new", func() bool { return strings.Contains(out.String(), "configmap/"+name+"-alice\n") })
	assert.NotContains(t, out.String(), "-bob")
	assert.NotContains(t, out.String(), "configmap/c-b")
}

func (w *world) streams(t *testing.T) {
	me := w.alice.proxied()
	assert.Equal(t, "text-of-alice\n", me.kubectl(t, "logs", "p-a"))
	assert.Equal(t, "text-of-alice\n", me.kubectl(t, "exec", "p-a", "--", "cat", "/www/index.html"))
	command := me.command(t.Context(), t, "exec", "-i", "p-a", "--", "cat")
	command.Stdin = strings.NewReader(strings.Repeat("0123456789abcdef\n", 1<<14))
	out, err := command.Output()
	require.NoError(t, err)
	assert.Len(t, out, 17<<14)
	assert.Equal(t, "text-of-alice\n", forwarded(t, me, "pod/p-a", "18082", "8080"))
	assert.Equal(t, "text-of-alice\n", forwarded(t, me, "svc/svc-a", "18083", "80"))
}

// openID logs a user in by the flow for devices; being in the provider's group makes her a member of the project.
func (w *world) openID(t *testing.T) {
	token, err := w.provider.login(t.Context(), olga)
	require.NoError(t, err)
	me := w.bearer(olga, token)
	code, name, groups := me.whoAmI(t)
	require.Equal(t, http.StatusCreated, code)
	assert.Equal(t, "iam:olga", name)
	assert.Contains(t, groups, "osn:project:"+w.alice.project)
	assert.Contains(t, groups, "iam:physics")
	me = me.proxied()
	configMap := unique("olga")
	made := me.creates(t, "v1/configmaps", "{metadata: {name: "+configMap+", labels: "+w.forged()+"}}")
	owner := made.GetLabels()[ownerKey]
	assert.Regexp(t, "^h-[a-z2-7]{52}$", owner)
	assert.Equal(t, "configmap/"+configMap+"\n", me.kubectl(t, "get", "configmaps", "-o", "name", "-l", "!x"), "and nothing of Alice's or Bob's")
	me.server = w.direct
	me.denied(t, notYours, http.MethodGet, "v1/secrets/s-b", "")
	w.alice.denied(t, notYours, http.MethodGet, "v1/configmaps/"+configMap, "")
	me.removes(t, "v1/configmaps/"+configMap)
	me.namespace = qst
	me.denied(t, "mt: not a namespace of your project", http.MethodGet, "v1/configmaps", "")
	got := w.bearer("nobody", token[:len(token)-8]+"AAAAAAAA").do(t, http.MethodGet, "v1/configmaps", "")
	assert.Equal(t, http.StatusUnauthorized, got.code, "%s", got.body)
}
