// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const selectYours = "mt: select what is yours: -l osn.infn.it/userid="

func collectionAttacks() []attack {
	return []attack{
		{name: "A3 list without a selector", run: listAll},
		{name: "A4 list what is Bob's", run: selects(func(w *world) []string {
			return []string{ownerKey + "=" + w.bob.id, ownerKey + " in (" + w.bob.id + ")"}
		})},
		{name: "A5 list what is Alice's or Bob's", run: selects(func(w *world) []string {
			return []string{
				ownerKey + " in (" + w.alice.id + "," + w.bob.id + ")", ownerKey + " in (" + w.alice.id + ",)",
				"osn.infn.it/visible-to in (" + w.alice.id + "," + w.bob.id + ")",
			}
		})},
		{name: "A6 list by other requirements for the owner", run: selects(func(w *world) []string {
			return []string{
				ownerKey + "!=" + w.bob.id, ownerKey + "!=x", ownerKey, "!" + ownerKey, ownerKey + " notin (x)", ownerKey + " in ()",
				ownerKey + "=", "osn.infn.it/username=alice", "osn.infn.it/projectid=" + w.alice.project, "osn.infn.it/visible-to", "app=web-b",
			}
		})},
		{name: "A7 two selectors, the own one first", run: smuggleSecond},
		{name: "A8 two selectors, an empty one first", run: queries(func(w *world) []string {
			return []string{"labelSelector=&labelSelector=" + w.alice.own(), "labelSelector=" + w.bob.own() + "&labelSelector=" + w.alice.own()}
		})},
		{name: "A9 malformed selectors", run: queries(func(w *world) []string {
			return []string{
				"labelSelector=" + url.QueryEscape("a=("), "labelSelector=" + url.QueryEscape(ownerKey+"="+w.alice.id+",(("), "LabelSelector=" + w.alice.own(),
				"labelselector=" + w.alice.own(), "labelSelector%20=" + w.alice.own(), "labelSelector=%zz", "x;labelSelector=" + w.alice.own(),
			}
		})},
		{name: "A10 list by Bob's name", run: queries(func(*world) []string {
			return []string{"fieldSelector=metadata.name%3Ds-b", "fieldSelector=metadata.name%3Dc-b", "fieldSelector=metadata.namespace%3Dcms"}
		})},
		{name: "A11 list by Bob's name and the own label", run: nameAndLabel},
		{name: "A12 the deprecated watch", run: oldWatch},
		{name: "A14 list all namespaces", run: allNamespaces},
		{name: "A15 delete collections of others", run: deleteOthers},
		{name: "A16 delete the own collection", run: deleteOwn},
	}
}

// collections are kinds of which both have some.
func collections() []string {
	return []string{"v1/secrets", "v1/configmaps", "v1/pods", "v1/services", "apps/v1/deployments"}
}

// onlyOwn demands that a list has what is the person's, and nothing else.
func onlyOwn(t *testing.T, p person, path string) {
	t.Helper()
	items := p.gets(t, path).items(t)
	assert.NotEmpty(t, items, "%s: what is one's own", path)
	for _, item := range items {
		assert.Equal(t, p.id, item.GetLabels()[ownerKey], "%s has %s", path, item.GetName())
	}
}

func listAll(t *testing.T, w *world) {
	for _, path := range collections() {
		w.alice.denied(t, selectYours+w.alice.id, http.MethodGet, path, "")
		w.alice.denied(t, selectYours+w.alice.id, http.MethodGet, path+"?watch=true&timeoutSeconds=1", "")
		w.mona.denied(t, selectYours+w.mona.id, http.MethodGet, path, "")
		onlyOwn(t, w.alice, path+"?labelSelector="+w.alice.own())
		onlyOwn(t, w.alice.proxied(), path)
		onlyOwn(t, w.bob.proxied(), path)
	}
}

// selects tries label selectors that show more than what is one's own.
func selects(selectors func(*world) []string) func(*testing.T, *world) {
	return queries(func(w *world) []string {
		var all []string
		for _, selector := range selectors(w) {
			all = append(all, "labelSelector="+url.QueryEscape(selector))
		}
		return all
	})
}

// queries tries queries that are refused, for lists and watches, directly and through the proxy.
func queries(of func(*world) []string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		for _, query := range of(w) {
			for _, path := range collections() {
				w.alice.denied(t, selectYours+w.alice.id, http.MethodGet, path+"?"+query, "")
				w.alice.denied(t, selectYours+w.alice.id, http.MethodGet, path+"?watch=1&timeoutSeconds=1&"+query, "")
			}
			// The proxy adds what is missing, or leaves it to be refused.
			got := w.alice.proxied().do(t, http.MethodGet, "v1/secrets?"+query, "")
			if got.code != http.StatusForbidden {
				require.Equal(t, http.StatusOK, got.code, "%s: %s", query, got.body)
				assert.NotContains(t, got.names(t), "s-b", query)
			}
		}
		onlyOwn(t, w.alice, "v1/secrets?labelSelector="+w.alice.own())
		onlyOwn(t, w.bob, "v1/secrets?labelSelector="+w.bob.own())
	}
}

func smuggleSecond(t *testing.T, w *world) {
	for _, second := range []string{"", w.bob.own(), "app"} {
		for _, path := range collections() {
			onlyOwn(t, w.alice, path+"?labelSelector="+w.alice.own()+"&labelSelector="+second)
		}
	}
}

func nameAndLabel(t *testing.T, w *world) {
	for path, name := range map[string]string{"v1/secrets": "s-", "v1/configmaps": "c-", "v1/pods": "p-"} {
		query := path + "?labelSelector=" + w.alice.own() + "&fieldSelector=metadata.name%3D" + name
		assert.Empty(t, w.alice.gets(t, query+"b").items(t))
		assert.Equal(t, []string{name + "a"}, w.alice.gets(t, query+"a").names(t))
	}
}

func oldWatch(t *testing.T, w *world) {
	for _, path := range []string{"secrets", "secrets/s-b", "secrets/s-a", "pods", "pods/p-b", "configmaps/c-b"} {
		for _, query := range []string{"?timeoutSeconds=1", "?timeoutSeconds=1&labelSelector=" + w.alice.own()} {
			for _, who := range []person{w.alice, w.alice.proxied()} {
				got := who.do(t, http.MethodGet, "/api/v1/watch/namespaces/cms/"+path+query, "")
				assert.Equal(t, http.StatusForbidden, got.code, "%s%s: %s", path, query, got.body)
			}
		}
	}
	onlyWatch := w.alice.gets(t, "v1/secrets?watch=1&timeoutSeconds=1&labelSelector="+w.alice.own())
	assert.Contains(t, string(onlyWatch.body), `"s-a"`, "the watch of today")
}

func allNamespaces(t *testing.T, w *world) {
	for _, path := range []string{"/api/v1/secrets", "/api/v1/pods", "/api/v1/configmaps", "/apis/apps/v1/deployments"} {
		for _, query := range []string{"", "?labelSelector=" + w.alice.own()} {
			for _, who := range []person{w.alice, w.alice.proxied()} {
				got := who.do(t, http.MethodGet, path+query, "")
				assert.Equal(t, http.StatusForbidden, got.code, "%s%s: %s", path, query, got.body)
			}
		}
	}
	got := w.root.gets(t, "/api/v1/secrets?labelSelector="+w.alice.own())
	assert.NotEmpty(t, got.items(t), "an administrator lists them")
}

func deleteOthers(t *testing.T, w *world) {
	check := w.untouched(t, bobs()...)
	both := url.QueryEscape("osn.infn.it/visible-to in (" + w.alice.id + ",project)")
	for _, path := range collections() {
		for _, query := range []string{"", "?labelSelector=" + both, "?labelSelector=" + w.bob.own(), "?fieldSelector=metadata.name%3Ds-b"} {
			w.alice.denied(t, selectYours+w.alice.id, http.MethodDelete, path+query, "")
		}
	}
	// Through the proxy it is what is one's own.
	w.alice.creates(t, "v1/configmaps", "{metadata: {name: "+unique("a15")+", labels: {attack: a15}}}")
	got := w.alice.proxied().do(t, http.MethodDelete, "v1/configmaps?labelSelector=attack%3Da15", "")
	require.Equal(t, http.StatusOK, got.code, "%s", got.body)
	check()
}

func deleteOwn(t *testing.T, w *world) {
	name := unique("a16")
	for _, who := range []person{w.alice, w.bob} {
		who.creates(t, "v1/configmaps", "{metadata: {name: "+name+"-"+who.name+", labels: {attack: "+name+"}}}")
	}
	got := w.alice.do(t, http.MethodDelete, "v1/configmaps?labelSelector="+w.alice.own()+url.QueryEscape(",attack="+name), "")
	require.Equal(t, http.StatusOK, got.code, "%s", got.body)
	left := w.root.gets(t, "v1/configmaps?labelSelector=attack%3D"+name).names(t)
	assert.Equal(t, []string{name + "-bob"}, left)
}
