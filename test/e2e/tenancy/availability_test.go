// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/openstack"
)

// TestTenancyAvailability kills webhooks.
func TestTenancyAvailability(t *testing.T) {
	w := theWorld(t)
	t.Run("one process of each is killed under load", w.killOneEach)
	t.Run("admission down", w.admissionDown)
	t.Run("all down", w.allDown)
}

const (
	perSecond = 500
	loadFor   = 20 * time.Second
)

// question is a request of the load and what has to come out.
type question struct {
	who                person
	method, path, body string
	// attack is refused, and all else is allowed.
	attack bool
}

// questions are those of a second: of tokens that nobody has seen before.
func (w *world) questions(alice, bob person) []question {
	pod := "{metadata: {name: load}, spec: {containers: [{name: a, image: b, envFrom: [{secretRef: {name: s-b}}]}]}}"
	own := func(p person, suffix string) []question {
		return []question{
			{who: p, method: http.MethodGet, path: "v1/secrets/s-" + suffix},
			{who: p, method: http.MethodGet, path: "v1/configmaps/c-" + suffix},
			{who: p, method: http.MethodGet, path: "v1/pods?limit=1&labelSelector=" + p.own()},
			{who: p, method: http.MethodGet, path: "apps/v1/deployments/d-" + suffix},
			{who: p, method: http.MethodPost, path: "v1/configmaps?dryRun=All", body: "{metadata: {name: load}}"},
		}
	}
	return append(append(own(alice, "a"), own(bob, "b")...),
		question{who: alice, method: http.MethodGet, path: "v1/secrets/s-b", attack: true},
		question{who: alice, method: http.MethodGet, path: "v1/secrets", attack: true},
		question{who: alice, method: http.MethodGet, path: "v1/configmaps?labelSelector=" + bob.own(), attack: true},
		question{who: alice, method: http.MethodDelete, path: "v1/configmaps/c-b?dryRun=All", attack: true},
		question{who: alice, method: http.MethodPost, path: "v1/pods?dryRun=All", body: pod, attack: true},
		question{who: bob, method: http.MethodGet, path: "v1/secrets/s-a", attack: true},
	)
}

// tally counts what came out.
type tally struct {
	mu                        sync.Mutex
	asked, wrongAllows, wrong int
	examples                  map[string]int
}

func (c *tally) count(q question, got answer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	allowed := err == nil && got.code < http.StatusMultipleChoices
	switch {
	case q.attack && allowed:
		c.wrongAllows++
	case q.attack && err == nil && got.code == http.StatusForbidden, !q.attack && allowed:
		return
	default:
		c.wrong++
	}
	c.examples[fmt.Sprintf("%s %s: %d %.160s %v", q.method, q.path, got.code, got.body, err)]++
}

func (w *world) killOneEach(t *testing.T) {
	ctx := t.Context()
	seconds := int(loadFor / time.Second)
	byTheSecond := make([][]question, seconds)
	for at := range byTheSecond {
		alice, err := w.login(ctx, "alice", openstack.CMS)
		require.NoError(t, err)
		bob, err := w.login(ctx, "bob", openstack.CMS)
		require.NoError(t, err)
		alice.client, bob.client = w.alice.client, w.bob.client
		byTheSecond[at] = w.questions(alice, bob)
	}
	counted := &tally{examples: map[string]int{}}
	began := time.Now()
	var killer sync.WaitGroup
	killer.Go(func() {
		for at, name := range []string{"kube-mt-authn-1", "kube-mt-authz-1", "kube-mt-admission-1"} {
			time.Sleep(time.Until(began.Add(time.Duration(3+5*at) * time.Second)))
			assert.NoError(t, w.kill(name))
			time.Sleep(2 * time.Second)
			assert.NoError(t, w.start(ctx, name))
		}
	})
	w.load(ctx, byTheSecond, counted)
	took := time.Since(began)
	killer.Wait()
	t.Logf("%d requests in %s (%.0f/s): %d wrong allows, %d errors (%.2f %%)", counted.asked, took.Round(time.Millisecond),
		float64(counted.asked)/took.Seconds(), counted.wrongAllows, counted.wrong, 100*float64(counted.wrong)/float64(counted.asked))
	for _, example := range slices.Sorted(maps.Keys(counted.examples)) {
		t.Logf("%d times: %s", counted.examples[example], example)
	}
	assert.Zero(t, counted.wrongAllows)
	assert.Less(t, counted.wrong*100, counted.asked, "under 1 %")
	assert.Greater(t, counted.asked, 100*seconds, "there was a load")
}

// load asks so many questions per second, as far as the machine can.
func (w *world) load(ctx context.Context, byTheSecond [][]question, counted *tally) {
	next := make(chan question)
	var workers sync.WaitGroup
	for range 64 {
		workers.Go(func() {
			for q := range next {
				got, err := q.who.try(ctx, q.method, q.path, q.body)
				counted.count(q, got, err)
			}
		})
	}
	began := time.Now()
	for at := range perSecond * len(byTheSecond) {
		now := byTheSecond[min(int(time.Since(began)/time.Second), len(byTheSecond)-1)]
		time.Sleep(time.Until(began.Add(time.Duration(at) * time.Second / perSecond)))
		next <- now[at%len(now)]
	}
	close(next)
	workers.Wait()
}

func (w *world) admissionDown(t *testing.T) {
	require.NoError(t, w.kill("kube-mt-admission-1", "kube-mt-admission-2"))
	check := w.untouched(t, bobs()...)
	const words = `failed calling webhook "mutate.kube-mt-admission.osn.infn.it"`
	for _, who := range []person{w.alice, w.alice.proxied()} {
		who.gets(t, "v1/secrets/s-a")
		for _, got := range []answer{
			who.do(t, http.MethodPost, "v1/configmaps", "{metadata: {name: "+unique("down")+"}}"),
			who.patches(t, "v1/configmaps/c-a", "{data: {more: text}}"),
		} {
			assert.Equal(t, http.StatusInternalServerError, got.code, "%s", got.body)
			assert.Contains(t, got.status.Message, words)
			assert.Contains(t, got.status.Message, "connection refused")
		}
		// What needs to know nothing holds all the same.
		got := who.do(t, http.MethodDelete, "v1/configmaps/c-b", "")
		assert.Contains(t, []int{http.StatusForbidden, http.StatusNotFound}, got.code, "%s", got.body)
	}
	out, err := w.alice.proxied().tries(t, "create", "configmap", unique("down"))
	require.Error(t, err)
	assert.Contains(t, out, words)
	w.controlPlaneWorks(t)
	check()
	require.NoError(t, w.start(t.Context(), "kube-mt-admission-1", "kube-mt-admission-2"))
	eventually(t, "tenants are back", func() bool {
		return w.alice.do(t, http.MethodPost, "v1/configmaps?dryRun=All", "{metadata: {name: back}}").code == http.StatusCreated
	})
}

func (w *world) allDown(t *testing.T) {
	fresh, err := w.login(t.Context(), "alice", openstack.CMS)
	require.NoError(t, err)
	name := unique("outage")
	w.alice.creates(t, "apps/v1/replicasets", "{metadata: {name: "+name+"}, spec: {replicas: 1, selector: {matchLabels: {a: "+name+"}}, template: {metadata: {labels: {a: "+name+
		"}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: a, image: '"+busybox+"', command: [sleep, infinity]}]}}}}")
	w.alice.where(t, "a="+name, 1)
	var all []string
	for _, webhook := range []string{"kube-mt-authn", "kube-mt-authz", "kube-mt-admission"} {
		all = append(all, webhook+"-1", webhook+"-2")
	}
	require.NoError(t, w.kill(all...))
	check := w.untouched(t, bobs()...)
	for _, path := range []string{"v1/secrets/s-a", "v1/secrets/s-b", "v1/pods?labelSelector=" + w.alice.own()} {
		// Whom the API server remembers gets as far as the authorization, others not even there.
		got := w.alice.do(t, http.MethodGet, path, "")
		assert.Contains(t, []int{http.StatusInternalServerError, http.StatusUnauthorized}, got.code, "%s", got.body)
		if got.code == http.StatusInternalServerError {
			assert.Contains(t, string(got.body), "https://127.0.0.1:9643/authorize?timeout=10s\": dial tcp 127.0.0.1:9643: connect: connection refused")
		}
		got = fresh.do(t, http.MethodGet, path, "")
		assert.Equal(t, http.StatusUnauthorized, got.code, "%s", got.body)
	}
	out, err := fresh.proxied().tries(t, "get", "pods")
	require.Error(t, err)
	assert.Regexp(t, `Unauthorized|the API server does not know this token|You must be logged in`, out)
	w.controlPlaneWorks(t)
	w.leasesGoOn(t)
	w.root.creates(t, "v1/configmaps", "{metadata: {name: "+name+"}}")
	w.root.removes(t, "v1/configmaps/"+name)
	// A pod that ends is made again when the webhooks are back.
	for _, pod := range w.root.gets(t, "v1/pods?labelSelector=a%3D"+name).names(t) {
		w.root.removes(t, "v1/pods/"+pod)
	}
	check()
	began := time.Now()
	require.NoError(t, w.start(t.Context(), all...))
	for _, who := range []person{w.alice, fresh, fresh.proxied(), w.bob} {
		eventually(t, "tenants are back", func() bool {
			return who.do(t, http.MethodGet, "v1/pods?labelSelector="+who.own(), "").code == http.StatusOK
		})
	}
	t.Logf("tenants were back %s after the restart", time.Since(began).Round(time.Millisecond))
	w.alice.denied(t, notYours, http.MethodGet, "v1/secrets/s-b", "")
	assert.Equal(t, []string{aliceNode}, w.alice.where(t, "a="+name, 1), "controllers go on, too")
	w.alice.removes(t, "apps/v1/replicasets/"+name+"?propagationPolicy=Background")
}
