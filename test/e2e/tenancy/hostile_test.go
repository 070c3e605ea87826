// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab"
)

// TestTenancyHostileNode has Alice use the key of her node's kubelet, which she can read: she is root there.
func TestTenancyHostileNode(t *testing.T) {
	w := theWorld(t)
	kubelet, err := w.component("system:node:"+aliceNode, "system:nodes")
	require.NoError(t, err)
	kubelet.trusted = false // it may see nothing of Bob's
	check := w.untouched(t, append(bobs(), "/api/v1/nodes/"+aliceNode, "/api/v1/nodes/"+bobNode)...)
	for name, one := range map[string]struct{ method, path, body string }{
		"list secrets":           {http.MethodGet, "v1/secrets", ""},
		"list secrets of all":    {http.MethodGet, "/api/v1/secrets", ""},
		"get a secret":           {http.MethodGet, "v1/secrets/s-b", ""},
		"get a secret of hers":   {http.MethodGet, "v1/secrets/s-a", ""}, // which no pod on the node refers to
		"get a configmap":        {http.MethodGet, "v1/configmaps/c-b", ""},
		"list all pods":          {http.MethodGet, "/api/v1/pods", ""},
		"list another's pods":    {http.MethodGet, "/api/v1/pods?fieldSelector=spec.nodeName%3D" + bobNode, ""},
		"read another node":      {http.MethodGet, "/api/v1/nodes/" + bobNode, ""},
		"delete the own node":    {http.MethodDelete, "/api/v1/nodes/" + aliceNode, ""},
		"attract Bob's pods":     {http.MethodPatch, "/api/v1/nodes/" + aliceNode, "{metadata: {labels: {" + lab.NodePoolLabel + ": u-" + w.bob.id + "}}}"},
		"attract all pods":       {http.MethodPatch, "/api/v1/nodes/" + aliceNode, "{metadata: {labels: {" + lab.NodePoolLabel + ": p-" + w.alice.project + "}}}"},
		"drop the taint":         {http.MethodPatch, "/api/v1/nodes/" + aliceNode, "{spec: {taints: []}}"},
		"status of Bob's pod":    {http.MethodPatch, "v1/pods/p-b/status", "{status: {podIP: 10.88.0.1}}"},
		"delete Bob's pod":       {http.MethodDelete, "v1/pods/p-b", ""},
		"token of Bob's account": {http.MethodPost, "v1/serviceaccounts/sa-b/token", tokenRequest},
		"token not on the node":  {http.MethodPost, "v1/serviceaccounts/default/token", tokenRequest},
		"another node's lease":   {http.MethodPatch, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/" + bobNode, "{spec: {holderIdentity: x}}"},
		"log of Bob's pod":       {http.MethodGet, "v1/pods/p-b/log", ""},
		"exec in Bob's pod":      {http.MethodPost, "v1/pods/p-b/exec?command=id", ""},
	} {
		t.Run(name, func(t *testing.T) {
			headers := []string{}
			if one.method == http.MethodPatch {
				headers = []string{"Content-Type", mergePatch}
			}
			got := kubelet.do(t, one.method, one.path, one.body, headers...)
			assert.Contains(t, []int{http.StatusForbidden, http.StatusUnauthorized, http.StatusUnprocessableEntity}, got.code, "%s", got.body)
		})
	}
	t.Run("an event about Bob's pod", func(t *testing.T) {
		uid := string(w.root.gets(t, "v1/pods/p-b").object.GetUID())
		name := unique("event")
		got := kubelet.do(t, http.MethodPost, "v1/events", "{metadata: {name: "+name+", labels: {"+ownerKey+": "+w.bob.id+"}}, reason: Lie, message: call this number, type: Warning, involvedObject: {apiVersion: v1, kind: Pod, namespace: cms, name: p-b, uid: "+uid+"}}")
		assert.Equal(t, http.StatusForbidden, got.code, "%s", got.body)
		got = w.bob.do(t, http.MethodGet, "v1/events/"+name, "")
		assert.Equal(t, http.StatusForbidden, got.code, "%s", got.body)
	})
	t.Run("what it needs for its work", func(t *testing.T) {
		kubelet.gets(t, "/api/v1/nodes/"+aliceNode)
		kubelet.gets(t, "/api/v1/pods?fieldSelector=spec.nodeName%3D"+aliceNode)
		kubelet.gets(t, "v1/pods/p-a")
	})
	check()
}
