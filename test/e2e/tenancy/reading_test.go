// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is said of what is others', or not there: which of the two, nobody is told.
const (
	notYours = "mt: not found or not yours"
	// notMine is what admission says.
	notMine = "not found or not yours"
)

func readingAttacks() []attack {
	return []attack{
		{name: "A1 get and describe what is Bob's", run: readOthers},
		{name: "A2 get what does not exist", run: readNothing},
		{name: "A13 a named object as a watch", run: namedWatch},
		{name: "A23 odd URLs", run: oddURLs},
		{name: "A57 the second API version of the same kind", run: otherVersions},
		{name: "A70 other formats", run: otherFormats},
	}
}

func readOthers(t *testing.T, w *world) {
	for _, path := range bobs() {
		parts := strings.Split(path, "/")
		resource, name := parts[len(parts)-2], parts[len(parts)-1]
		t.Run(resource, func(t *testing.T) {
			w.alice.denied(t, notYours, http.MethodGet, path, "")
			got := w.alice.proxied().do(t, http.MethodGet, path, "")
			assert.Equal(t, http.StatusNotFound, got.code, "%s", got.body)
			assert.Contains(t, got.status.Message, `"`+name+`" not found`)
			assert.True(t, w.tells(w.bob.gets(t, path).body), "the owner sees it")
			assert.True(t, w.tells(w.bob.proxied().gets(t, path).body))
			w.alice.gets(t, strings.TrimSuffix(path, "b")+"a")
			// A manager is a member here, and somebody of another project is nobody.
			w.mona.denied(t, notYours, http.MethodGet, path, "")
			stranger := w.carol
			stranger.namespace = cms
			stranger.denied(t, "mt: not a namespace of your project", http.MethodGet, path, "")
		})
	}
	t.Run("kubectl describe", func(t *testing.T) {
		out, err := w.alice.proxied().tries(t, "describe", "secret/s-b", "configmap/c-b", "pod/p-b")
		require.Error(t, err)
		for _, want := range []string{`secrets "s-b" not found`, `configmaps "c-b" not found`, `pods "p-b" not found`} {
			assert.Contains(t, out, want)
		}
		assert.Contains(t, w.bob.proxied().kubectl(t, "describe", "pod/p-b"), w.marker)
	})
}

func readNothing(t *testing.T, w *world) {
	for _, resource := range []string{"v1/secrets/", "v1/configmaps/", "v1/pods/", "apps/v1/deployments/"} {
		nothing := w.alice.do(t, http.MethodGet, resource+"nothing-here", "")
		name := bobsNameOf(resource)
		others := w.alice.do(t, http.MethodGet, resource+name, "")
		assert.Equal(t, http.StatusForbidden, nothing.code)
		assert.Equal(t, strings.ReplaceAll(others.status.Message, name, "nothing-here"), nothing.status.Message, "both are told the same")
		nothing, others = w.alice.proxied().do(t, http.MethodGet, resource+"nothing-here", ""), w.alice.proxied().do(t, http.MethodGet, resource+name, "")
		assert.Equal(t, http.StatusNotFound, nothing.code, "%s", nothing.body)
		assert.Equal(t, strings.ReplaceAll(string(others.body), name, "nothing-here"), string(nothing.body))
	}
	w.alice.gets(t, "v1/secrets/s-a")
}

func bobsNameOf(resource string) string {
	for _, path := range bobs() {
		if name, ok := strings.CutPrefix(path, resource); ok {
			return name
		}
	}
	return ""
}

func namedWatch(t *testing.T, w *world) {
	w.alice.denied(t, notYours, http.MethodGet, "v1/secrets/s-b?watch=true&timeoutSeconds=1", "")
	w.alice.denied(t, "mt: select what is yours", http.MethodGet, "v1/secrets?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Ds-b", "")
	got := w.alice.gets(t, "v1/secrets?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Ds-b&labelSelector="+w.alice.own())
	assert.NotContains(t, string(got.body), "s-b")
	got = w.alice.proxied().do(t, http.MethodGet, "v1/secrets/s-b?watch=true&timeoutSeconds=1", "")
	assert.Equal(t, http.StatusNotFound, got.code, "%s", got.body)
	got = w.bob.gets(t, "v1/secrets?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Ds-b&labelSelector="+w.bob.own())
	assert.Contains(t, string(got.body), "s-b", "the owner's watch")
}

func oddURLs(t *testing.T, w *world) {
	const space = "/api/v1/namespaces/cms/"
	for _, path := range []string{
		space + "secrets//s-b", space + "/secrets/s-b", "//api/v1/namespaces/cms/secrets/s-b", "/api//v1/namespaces/cms/secrets/s-b",
		space + "configmaps/../secrets/s-b", space + "secrets/./s-b", "/api/v1/namespaces/qst/../cms/secrets/s-b", space + "configmaps/c-a/../../secrets/s-b",
		space + "%73ecrets/s-b", space + "secrets/%73-b", "/api/v1/namespaces/%63ms/secrets/s-b", space + "secrets%2Fs-b", space + "secrets/..%2Fsecrets%2Fs-b",
		space + "secrets/s-b/", space + "secrets/s-b/unknown", space + "secrets/s-b/status", space + "secrets/s-b/scale",
		space + "secrets;x/s-b", space + "secrets/s-b;x", space + "secrets/s-b%00", space + "secrets/s-b%20", space + "SECRETS/s-b", space + "secret/s-b",
		"/api/v1/proxy/namespaces/cms/pods/p-b", "/api/v1/namespaces/cms/pods/p-b/unknown", "/apis/v1/namespaces/cms/secrets/s-b",
		"/api/v1/namespaces//secrets/s-b", "/api/v1/namespaces/cms//secrets/s-b", "/api/v1/secrets/s-b",
	} {
		for _, who := range []person{w.alice, w.alice.proxied()} {
			got := who.do(t, http.MethodGet, path, "")
			assert.Contains(t, []int{http.StatusForbidden, http.StatusNotFound}, got.code, "%s%s: %s", who.server, path, got.body)
		}
	}
	// A list is a list, also with a slash behind it.
	w.alice.denied(t, selectYours, http.MethodGet, space+"secrets/", "")
	onlyOwn(t, w.alice.proxied(), space+"secrets/")
	w.bob.gets(t, space+"secrets/%73-b")
}

func otherVersions(t *testing.T, w *world) {
	for _, version := range []string{"v1", "v2"} {
		path := "autoscaling/" + version + "/horizontalpodautoscalers"
		w.alice.denied(t, notYours, http.MethodGet, path+"/h-b", "")
		w.alice.denied(t, notYours, http.MethodDelete, path+"/h-b", "")
		w.alice.denied(t, "mt: select what is yours", http.MethodGet, path, "")
		w.alice.denied(t, `spec.scaleTargetRef: deployments.apps "d-b": `+notMine, http.MethodPost, path,
			"{metadata: {name: "+unique("a57")+"}, spec: {maxReplicas: 9, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d-b}}}")
		w.bob.gets(t, path+"/h-b")
		name := unique("a57")
		made := w.alice.creates(t, path, "{metadata: {name: "+name+"}, spec: {maxReplicas: 9, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d-a}}}")
		assert.Equal(t, w.alice.id, made.GetLabels()[ownerKey])
	}
	// An event about Bob's pod, which the kubelet or the scheduler has made.
	var event string
	for _, item := range w.bob.gets(t, "v1/events?labelSelector="+w.bob.own()).items(t) {
		event = item.GetName()
	}
	require.NotEmpty(t, event, "Bob's pod had no events")
	for _, version := range []string{"v1", "events.k8s.io/v1"} {
		w.alice.denied(t, notYours, http.MethodGet, version+"/events/"+event, "")
		w.alice.denied(t, "mt: select what is yours", http.MethodGet, version+"/events", "")
		w.alice.denied(t, "mt: this kind of object is read-only for tenants", http.MethodDelete, version+"/events/"+event, "")
		w.bob.gets(t, version+"/events/"+event)
	}
}

func otherFormats(t *testing.T, w *world) {
	for name, accept := range map[string]string{
		"table":    "application/json;as=Table;v=v1;g=meta.k8s.io",
		"metadata": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
		"list":     "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
		"protobuf": "application/vnd.kubernetes.protobuf",
		"partial":  "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
		"cbor":     "application/cbor",
		"yaml":     "application/yaml",
	} {
		t.Run(name, func(t *testing.T) {
			for path, owner := range map[string]string{"v1/secrets/s-b": "v1/secrets/s-a", "v1/pods/p-b": "v1/pods/p-a", "v1/pods": "v1/pods?labelSelector=" + w.alice.own()} {
				mine := w.alice.do(t, http.MethodGet, owner, "", "Accept", accept)
				others := w.alice.do(t, http.MethodGet, path, "", "Accept", accept)
				assert.Equal(t, http.StatusForbidden, others.code, "%s: %s", path, others.body)
				hidden := w.alice.proxied().do(t, http.MethodGet, path, "", "Accept", accept)
				if path == "v1/pods" {
					assert.Equal(t, mine.code, hidden.code, "%s", hidden.body)
					assert.NotContains(t, string(hidden.body), "p-b")
				} else {
					assert.Equal(t, http.StatusNotFound, hidden.code, "%s: %s", path, hidden.body)
				}
				// Not every form is served for objects and for lists, which the owner is told, too.
				wrongForm := name == "cbor" || name == "list" || path == "v1/pods" && (name == "metadata" || name == "partial")
				assert.True(t, mine.code == http.StatusOK || wrongForm && mine.code == http.StatusNotAcceptable, "%s: %d %s", owner, mine.code, mine.body)
			}
		})
	}
}
