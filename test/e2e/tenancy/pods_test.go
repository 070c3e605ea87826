// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func podAttacks() []attack {
	return []attack{
		{name: "A24 log, exec, attach and port-forward of Bob's pod", run: intoPods},
		{name: "A25 proxies to Bob's pod and service", run: throughProxies},
		{name: "A26 eviction of Bob's pod", run: evict},
		{name: "A27 bindings", run: bind},
		{name: "A28 a binding that says whose a pod is", run: bindLabels},
		{name: "A29 impersonation", run: impersonate},
		{name: "A69 kubectl cp and port-forward to what is Bob's", run: copyAndForward},
	}
}

// upgrades are the headers of both ways to open a stream.
func upgrades(path string) map[string][]string {
	if strings.HasPrefix(path, "portforward") {
		return map[string][]string{
			"WebSocket": {
				"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==",
				"Sec-WebSocket-Protocol", "SPDY/3.1+portforward.k8s.io",
			},
			"SPDY": {"Connection", "Upgrade", "Upgrade", "SPDY/3.1", "X-Stream-Protocol-Version", "portforward.k8s.io"},
		}
	}
	return map[string][]string{
		"WebSocket": {
			"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==",
			"Sec-WebSocket-Protocol", "v5.channel.k8s.io",
		},
		"SPDY": {"Connection", "Upgrade", "Upgrade", "SPDY/3.1", "X-Stream-Protocol-Version", "v4.channel.k8s.io"},
	}
}

func intoPods(t *testing.T, w *world) {
	paths := []string{"exec?command=cat&command=/www/index.html&stdout=true", "attach?stdout=true", "portforward?ports=8080"}
	for _, path := range []string{"log", "log?follow=true", "log?previous=true"} {
		w.alice.denied(t, notYours, http.MethodGet, "v1/pods/p-b/"+path, "")
		assert.Equal(t, http.StatusNotFound, w.alice.proxied().do(t, http.MethodGet, "v1/pods/p-b/"+path, "").code)
	}
	for _, path := range paths {
		for kind, headers := range upgrades(path) {
			method := http.MethodPost
			if kind == "WebSocket" {
				method = http.MethodGet // arrives as get, and not as create
			}
			w.alice.denied(t, notYours, method, "v1/pods/p-b/"+path, "", headers...)
			w.mona.denied(t, notYours, method, "v1/pods/p-b/"+path, "", headers...)
			got := w.alice.proxied().do(t, method, "v1/pods/p-b/"+path, "", headers...)
			assert.Equal(t, http.StatusNotFound, got.code, "%s %s: %s", kind, path, got.body)
			got = w.alice.do(t, method, "v1/pods/p-a/"+path, "", headers...)
			assert.Equal(t, http.StatusSwitchingProtocols, got.code, "%s %s of one's own: %s", kind, path, got.body)
		}
	}
	for _, args := range [][]string{{"logs", "p-b"}, {"exec", "p-b", "--", "cat", "/www/index.html"}, {"attach", "p-b"}, {"debug", "p-b", "--image=busybox"}} {
		out, err := w.alice.proxied().tries(t, args...)
		require.Error(t, err, "%v", args)
		assert.Contains(t, out, `pods "p-b" not found`, "%v", args)
	}
	assert.Equal(t, w.marker+"\n", w.bob.kubectl(t, "exec", "p-b", "--", "cat", "/www/index.html"), "the owner may")
	assert.Contains(t, w.bob.proxied().kubectl(t, "logs", "p-b"), w.marker)
}

func throughProxies(t *testing.T, w *world) {
	for _, path := range []string{
		"v1/pods/p-b/proxy/", "v1/pods/p-b:8080/proxy/", "v1/pods/http:p-b:8080/proxy/", "v1/pods/https:p-b:8080/proxy/index.html", "v1/pods/http:p-b:/proxy/",
		"v1/services/svc-b/proxy/", "v1/services/svc-b:80/proxy/", "v1/services/http:svc-b:80/proxy/", "v1/services/https:svc-b:443/proxy/index.html",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			w.alice.denied(t, notYours, method, path, "")
		}
		got := w.alice.proxied().do(t, http.MethodGet, path, "")
		assert.Equal(t, http.StatusNotFound, got.code, "%s: %s", path, got.body)
	}
	for _, path := range []string{"v1/pods/a:b:c:d/proxy/", "v1/pods/p-a:x:p-b/proxy/", "/api/v1/nodes/" + bobNode + "/proxy/pods", "/api/v1/nodes/" + aliceNode + "/proxy/"} {
		got := w.alice.do(t, http.MethodGet, path, "")
		assert.Equal(t, http.StatusForbidden, got.code, "%s: %s", path, got.body)
	}
	for _, path := range []string{"v1/pods/http:p-b:8080/proxy/", "v1/services/http:svc-b:80/proxy/"} {
		assert.Equal(t, w.marker+"\n", string(w.bob.gets(t, path).body), "the owner may")
	}
}

// pauses is a pod that does nothing for as long as it is wanted.
func pauses(name, more string) string {
	return "{metadata: {name: " + name + ", labels: {app: " + name + "}}, spec: {terminationGracePeriodSeconds: 0, containers: " +
		"[{name: main, image: '" + busybox + "', command: [sleep, infinity]}]" + more + "}}"
}

func evict(t *testing.T, w *world) {
	check := w.untouched(t, "v1/pods/p-b", "v1/pods/p-a")
	eviction := func(name string) string {
		return "{apiVersion: policy/v1, kind: Eviction, metadata: {name: " + name + "}}"
	}
	w.alice.denied(t, notYours, http.MethodPost, "v1/pods/p-b/eviction", eviction("p-b"))
	w.mona.denied(t, notYours, http.MethodPost, "v1/pods/p-b/eviction", eviction("p-b"))
	w.alice.denied(t, notYours, http.MethodPost, "v1/pods/p-b/eviction", eviction("p-a"))
	got := w.alice.do(t, http.MethodPost, "v1/pods/p-a/eviction", eviction("p-b"))
	assert.Equal(t, http.StatusBadRequest, got.code, "%s", got.body)
	check()
	name := unique("a26")
	w.alice.creates(t, "v1/pods", pauses(name, ", nodeSelector: {no: where}"))
	got = w.alice.do(t, http.MethodPost, "v1/pods/"+name+"/eviction", eviction(name))
	assert.Equal(t, http.StatusCreated, got.code, "the owner may: %s", got.body)
}

func binding(name, node, labels string) string {
	return "{apiVersion: v1, kind: Binding, metadata: {name: " + name + ", labels: " + labels + "}, target: {apiVersion: v1, kind: Node, name: " + node + "}}"
}

func bind(t *testing.T, w *world) {
	name := unique("a27")
	w.alice.creates(t, "v1/pods", pauses(name, ", nodeSelector: {no: where}"))
	for _, node := range []string{aliceNode, bobNode, sharedNode} {
		w.alice.denied(t, "mt: ", http.MethodPost, "v1/bindings", binding(name, node, "{}"))
		w.alice.denied(t, "mt: ", http.MethodPost, "v1/pods/"+name+"/binding", binding(name, node, "{}"))
		w.alice.denied(t, "mt: ", http.MethodPost, "v1/pods/p-b/binding", binding("p-b", node, "{}"))
	}
	assert.NotContains(t, w.root.gets(t, "v1/pods/"+name).object.Object["spec"], "nodeName")
}

func bindLabels(t *testing.T, w *world) {
	forged := "{" + ownerKey + ": " + w.bob.id + ", osn.infn.it/visible-to: project, app: web-b}"
	name := unique("a28")
	w.alice.creates(t, "v1/pods", pauses(name, ", nodeSelector: {no: where}"))
	for _, other := range []struct{ user, group string }{
		{"system:kube-controller-manager", "system:masters-not"}, {"system:node:" + bobNode, "system:nodes"},
	} {
		component, err := w.component(other.user, other.group)
		require.NoError(t, err)
		for _, path := range []string{"v1/pods/" + name + "/binding", "v1/bindings"} {
			got := component.do(t, http.MethodPost, path, binding(name, aliceNode, forged))
			assert.Equal(t, http.StatusForbidden, got.code, "%s: %s", other.user, got.body)
		}
	}
	scheduler, err := w.component("system:kube-scheduler")
	require.NoError(t, err)
	got := scheduler.do(t, http.MethodPost, "v1/pods/"+name+"/binding", binding(name, aliceNode, forged))
	require.Contains(t, []int{http.StatusCreated, http.StatusForbidden}, got.code, "%s", got.body)
	owned(t, w.alice, w.root.gets(t, "v1/pods/"+name).object.GetLabels())
	if got.code == http.StatusForbidden {
		assert.Contains(t, got.status.Message, "a binding does not change whose a pod is")
		got = scheduler.do(t, http.MethodPost, "v1/pods/"+name+"/binding", binding(name, aliceNode, "{}"))
		require.Equal(t, http.StatusCreated, got.code, "%s", got.body)
	}
	node, _, _ := unstructured.NestedString(w.root.gets(t, "v1/pods/"+name).object.Object, "spec", "nodeName")
	assert.Equal(t, aliceNode, node, "the scheduler binds")
	// With Bob's label it would be in the way of whoever looks for what that label selects.
	assert.Equal(t, http.StatusOK, w.alice.do(t, http.MethodDelete, "v1/pods/"+name, "").code)
}

func impersonate(t *testing.T, w *world) {
	for name, headers := range map[string][]string{
		"user":       {"Impersonate-User", "bob"},
		"masters":    {"Impersonate-User", "bob", "Impersonate-Group", "system:masters"},
		"group":      {"Impersonate-User", "alice", "Impersonate-Group", "osn:project:" + w.carol.project},
		"uid":        {"Impersonate-User", "alice", "Impersonate-Uid", w.bob.id},
		"extra":      {"Impersonate-User", "alice", "Impersonate-Extra-osn.infn.it%2fuserid", w.bob.id},
		"account":    {"Impersonate-User", "system:serviceaccount:cms:sa-b"},
		"kubernetes": {"Impersonate-User", "system:kube-scheduler"},
		"node":       {"Impersonate-User", "system:node:" + bobNode, "Impersonate-Group", "system:nodes"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, who := range []person{w.alice, w.alice.proxied(), w.mona} {
				for _, path := range []string{"v1/secrets/s-b", "v1/secrets?labelSelector=" + w.bob.own(), "/api/v1/namespaces"} {
					got := who.do(t, http.MethodGet, path, "", headers...)
					assert.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, got.code, "%s: %s", path, got.body)
				}
			}
		})
	}
	for _, verb := range []string{"impersonate", "impersonate:user-info", "impersonate:serviceaccount", "impersonate:arbitrary-node", "impersonate-on:user-info:get"} {
		for _, resource := range []string{"users", "groups", "serviceaccounts", "uids"} {
			assert.False(t, w.may(t, w.alice, verb, "", resource, "x"), "%s %s", verb, resource)
		}
	}
	assert.True(t, w.may(t, w.alice, "get", "", "secrets", "s-a"), "the question itself is answered")
	w.alice.gets(t, "v1/secrets/s-a")
}

// may asks the API server whether somebody may.
func (w *world) may(t *testing.T, who person, verb, group, resource, name string) bool {
	t.Helper()
	got := who.do(t, http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
		"{spec: {resourceAttributes: {verb: '"+verb+"', group: '"+group+"', resource: "+resource+", name: "+name+", namespace: "+who.namespace+"}}}")
	require.Equal(t, http.StatusCreated, got.code, "%s", got.body)
	allowed, _, _ := unstructured.NestedBool(got.object.Object, "status", "allowed")
	return allowed
}

func copyAndForward(t *testing.T, w *world) {
	for _, who := range []person{w.alice, w.alice.proxied()} {
		for _, args := range [][]string{
			{"cp", "p-b:/www/index.html", t.TempDir() + "/stolen"},
			{"cp", "/etc/hostname", "p-b:/www/index.html"},
			{"port-forward", "svc/svc-b", "18080:80"},
			{"port-forward", "pod/p-b", "18080:8080"},
			{"port-forward", "deployment/d-b", "18080:80"},
		} {
			out, err := who.tries(t, args...)
			require.Error(t, err, "%v", args)
			assert.Regexp(t, `not found|Forbidden|mt: `, out, "%v", args)
		}
	}
	assert.Equal(t, w.marker+"\n", w.bob.kubectl(t, "exec", "p-b", "--", "cat", "/www/index.html"))
	assert.Equal(t, "text-of-alice\n", forwarded(t, w.alice, "svc/svc-a", "18081", "80"), "to one's own")
}

// forwarded is what a page says that is reached through kubectl's port-forward.
func forwarded(t *testing.T, who person, target, near, far string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	command := who.command(ctx, t, "port-forward", target, near+":"+far)
	require.NoError(t, command.Start())
	defer func() { cancel(); _ = command.Wait() }()
	var page string
	require.Eventually(t, func() bool {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+near+"/", nil)
		if err != nil {
			return false
		}
		response, err := who.client.Do(request)
		if err != nil {
			return false
		}
		defer func() { _ = response.Body.Close() }()
		var text strings.Builder
		buffer := make([]byte, 1<<10)
		for {
			n, err := response.Body.Read(buffer)
			text.Write(buffer[:n])
			if err != nil {
				break
			}
		}
		page = text.String()
		return response.StatusCode == http.StatusOK
	}, patience, 200*time.Millisecond, "%s of %s", target, who.name)
	return page
}
