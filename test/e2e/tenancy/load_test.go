// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func loadAttacks() []attack {
	return []attack{
		{name: "A65 huge selectors and many names", alone: true, run: huge},
		{name: "A66 faults of the authorization webhook", alone: true, run: webhookFaults},
		{name: "A67 stalled watches of the authorization webhook", run: stalledWatches},
	}
}

// huge has Alice send what is much, and looks how long Bob waits meanwhile.
func huge(t *testing.T, w *world) {
	long := func(length int) string { return url.QueryEscape("a in (" + strings.Repeat("x,", length/2) + "x)") }
	for name, one := range map[string]struct {
		path  string
		codes []int
	}{
		"selector of 900 KiB":    {"v1/secrets?labelSelector=" + long(300<<10), []int{403, 414, 431, 400}},
		"selector of 2 MiB":      {"v1/secrets?labelSelector=" + long(700<<10), []int{414, 431, 400}},
		"many requirements":      {"v1/secrets?labelSelector=" + url.QueryEscape(strings.Repeat("a=b,", 50_000)+"a=b"), []int{403}},
		"many requirements, own": {"v1/secrets?labelSelector=" + url.QueryEscape(strings.Repeat("a=b,", 10_000)) + w.alice.own(), []int{200}},
		"many values, mine last": {"v1/secrets?labelSelector=" + url.QueryEscape(ownerKey+" in ("+strings.Repeat("x,", 10_000)) + w.alice.id + ")", []int{403}},
		"name of 100 KiB":        {"v1/secrets/" + strings.Repeat("x", 100<<10), []int{403}},
		"namespace of 100 KiB":   {"/api/v1/namespaces/" + strings.Repeat("x", 100<<10) + "/secrets/x", []int{403}},
	} {
		for _, who := range []person{w.alice, w.alice.proxied()} {
			began := time.Now()
			got, err := who.try(t.Context(), http.MethodGet, one.path, "")
			if err != nil { // the server may end the connection before all has been sent
				assert.Less(t, time.Since(began), 5*time.Second, name)
				continue
			}
			allowed := append(slices.Clone(one.codes), http.StatusNotFound, http.StatusRequestHeaderFieldsTooLarge)
			if who.server == w.front {
				allowed = append(allowed, http.StatusOK) // the own ones, then
			}
			assert.Contains(t, allowed, got.code, "%s: %.300s", name, got.body)
			assert.Less(t, time.Since(began), 5*time.Second, name)
			who.keepsSecrets(t, name, got.body)
		}
	}
	w.manyNames(t)
}

// manyNames has Alice guess names as fast as she can.
func (w *world) manyNames(t *testing.T) {
	t.Helper()
	const names = 10_000
	var next atomic.Int64
	var codes sync.Map
	var workers sync.WaitGroup
	done := make(chan struct{})
	for range 8 {
		workers.Go(func() {
			for at := next.Add(1); at <= names; at = next.Add(1) {
				got, err := w.alice.try(context.WithoutCancel(t.Context()), http.MethodGet, "v1/secrets/guess-"+strconv.Itoa(int(at)), "")
				if err == nil {
					codes.Store(got.code, true)
				}
			}
		})
	}
	go func() { workers.Wait(); close(done) }()
	var took []time.Duration
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for running := true; running; {
		began := time.Now()
		w.bob.gets(t, "v1/secrets/s-b")
		took = append(took, time.Since(began))
		select {
		case <-done:
			running = false
		case <-every.C:
		}
	}
	codes.Range(func(code, _ any) bool {
		assert.Contains(t, []any{http.StatusForbidden, http.StatusTooManyRequests}, code)
		return true
	})
	slices.Sort(took)
	t.Logf("Bob's %d reads meanwhile: median %s, longest %s", len(took), took[len(took)/2], took[len(took)-1])
	assert.Less(t, took[len(took)*99/100], 3*time.Second)
	require.Greater(t, len(took), 10)
	// What Alice has asked for in vain does not keep her from what is hers.
	eventually(t, "Alice is well", func() bool {
		return w.alice.do(t, http.MethodGet, "v1/secrets/s-a", "").code == http.StatusOK
	})
}
