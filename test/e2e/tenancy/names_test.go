// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func nameAttacks() []attack {
	return []attack{
		{name: "A37 a name used again within seconds", run: reused},
		{name: "A38 a watch by name kept open while Bob takes the name", run: watchedName},
		{name: "A39 reading in a loop while Bob creates", run: polledName},
	}
}

// becomesBobs makes an object of Bob's under the name by the only ones who need not wait: administrators.
func (w *world) becomesBobs(t *testing.T, resource, name string) {
	t.Helper()
	w.root.creates(t, resource, "{metadata: {name: "+name+", annotations: {of: "+w.marker+"}, labels: {"+ownerKey+": "+w.bob.id+
		", osn.infn.it/projectid: "+w.bob.project+", osn.infn.it/visible-to: "+w.bob.id+"}}}")
}

func reused(t *testing.T, w *world) {
	var names []string
	for range 10 {
		name := unique("a37")
		w.alice.creates(t, "v1/configmaps", "{metadata: {name: "+name+"}}")
		w.alice.gets(t, "v1/configmaps/"+name)
		w.alice.removes(t, "v1/configmaps/"+name)
		names = append(names, name)
		// Bob is told to wait, and for how long: until whoever decides has heard whose the name is now.
		got := w.bob.do(t, http.MethodPost, "v1/configmaps", "{metadata: {name: "+name+"}}")
		require.Equal(t, http.StatusConflict, got.code, "%s", got.body)
		assert.Contains(t, got.status.Message, "the name "+name+" was used by somebody else a short time ago; try again in ")
		require.NotNil(t, got.status.Details)
		assert.InDelta(t, 120, got.status.Details.RetryAfterSeconds, 3)
	}
	freed := time.Now()
	w.madeByAdministrator(t)
	for _, name := range names {
		require.Eventually(t, func() bool {
			got := w.bob.do(t, http.MethodPost, "v1/configmaps", "{metadata: {name: "+name+"}, data: {of: "+w.marker+"}}")
			return got.code == http.StatusCreated
		}, 140*time.Second, time.Second, "the name becomes free")
		for range 5 {
			w.alice.denied(t, notYours, http.MethodGet, "v1/configmaps/"+name, "")
			w.alice.denied(t, notYours, http.MethodPatch, "v1/configmaps/"+name, "{data: {a: b}}", "Content-Type", mergePatch)
		}
		w.bob.gets(t, "v1/configmaps/"+name)
	}
	assert.Greater(t, time.Since(freed), 110*time.Second)
	got := w.alice.do(t, http.MethodPost, "v1/configmaps", "{metadata: {name: "+names[0]+"}}")
	assert.Equal(t, http.StatusConflict, got.code, "%s", got.body)
}

// madeByAdministrator uses a name again at once, as only administrators can, whom the webhook is not asked about. Alice, who
// had the name, is refused as soon as the news has come.
func (w *world) madeByAdministrator(t *testing.T) {
	t.Helper()
	name := unique("a37")
	w.alice.creates(t, "v1/configmaps", "{metadata: {name: "+name+"}}")
	w.alice.removes(t, "v1/configmaps/"+name)
	w.root.creates(t, "v1/configmaps", "{metadata: {name: "+name+", labels: {"+ownerKey+": "+w.bob.id+"}}}")
	require.Eventually(t, func() bool {
		return w.alice.do(t, http.MethodGet, "v1/configmaps/"+name, "").code == http.StatusForbidden
	}, 2*time.Second, 10*time.Millisecond)
	for range 20 {
		w.alice.denied(t, notYours, http.MethodGet, "v1/configmaps/"+name, "")
	}
	w.bob.gets(t, "v1/configmaps/"+name)
}

// watches collects the events of a watch until the test, or its time, ends.
func watches(t *testing.T, who person, path string) (lines func() []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, who.url(path), nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+who.token)
	response, err := who.client.Do(request)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	var mu sync.Mutex
	var events []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		scanner := bufio.NewScanner(response.Body)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			mu.Lock()
			events = append(events, scanner.Text())
			mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done; _ = response.Body.Close() })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), events...)
	}
}

func watchedName(t *testing.T, w *world) {
	for _, who := range []person{w.alice, w.alice.proxied()} {
		name := unique("a38")
		w.alice.creates(t, "v1/configmaps", "{metadata: {name: "+name+"}}")
		byName := "v1/configmaps?watch=1&timeoutSeconds=60&fieldSelector=metadata.name%3D" + name
		w.alice.denied(t, selectYours, http.MethodGet, byName, "")
		if who.server == w.direct {
			byName += "&labelSelector=" + w.alice.own()
		}
		lines := watches(t, who, byName)
		eventually(t, "the watch shows what is there", func() bool { return len(lines()) == 1 })
		w.alice.removes(t, "v1/configmaps/"+name)
		w.becomesBobs(t, "v1/configmaps", name)
		w.root.patches(t, "v1/configmaps/"+name, "{data: {of: "+w.marker+"}}")
		eventually(t, "the watch shows that it has gone", func() bool { return len(lines()) == 2 })
		stays(t, "no event of Bob's comes", func() bool { return len(lines()) == 2 })
		assert.Contains(t, lines()[1], `"DELETED"`)
		who.keepsSecrets(t, "watch", []byte(strings.Join(lines(), "\n")))
	}
}

func polledName(t *testing.T, w *world) {
	name := unique("a39")
	ctx, cancel := context.WithCancel(t.Context())
	codes := make(chan map[int]int, 4)
	for range 4 {
		go func() {
			seen := map[int]int{}
			for ctx.Err() == nil {
				for _, path := range []string{"v1/secrets/" + name, "v1/configmaps/" + name} {
					if got, err := w.alice.try(context.WithoutCancel(ctx), http.MethodGet, path, ""); err == nil {
						seen[got.code]++
					}
				}
			}
			codes <- seen
		}()
	}
	for range 5 {
		w.bob.creates(t, "v1/secrets", "{metadata: {name: "+name+"}, stringData: {of: "+w.marker+"}}")
		w.bob.creates(t, "v1/configmaps", "{metadata: {name: "+name+"}, data: {of: "+w.marker+"}}")
		w.bob.gets(t, "v1/secrets/"+name)
		time.Sleep(200 * time.Millisecond)
		w.bob.removes(t, "v1/secrets/"+name)
		w.bob.removes(t, "v1/configmaps/"+name)
	}
	cancel()
	for range 4 {
		seen := <-codes
		assert.NotZero(t, seen[http.StatusForbidden])
		delete(seen, http.StatusForbidden)
		delete(seen, http.StatusTooManyRequests)
		assert.Empty(t, seen, "all are denied")
	}
}
