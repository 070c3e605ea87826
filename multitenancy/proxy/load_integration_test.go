// SPDX-License-Identifier: Apache-2.0

//go:build integration

package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// watches opens a number of watches, and returns when each has begun.
func (f front) watches(ctx context.Context, tb testing.TB, number int, query string) []*bufio.Reader {
	tb.Helper()
	var open []*bufio.Reader
	for range number {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+core+"configmaps?watch=true"+query, http.NoBody)
		require.NoError(tb, err)
		request.Header.Set("Authorization", "Bearer alice")
		answer, err := f.client.Do(request)
		require.NoError(tb, err)
		require.Equal(tb, http.StatusOK, answer.StatusCode)
		tb.Cleanup(func() { _ = answer.Body.Close() })
		open = append(open, bufio.NewReader(answer.Body))
	}
	return open
}

// testManyWatches has more streams than one connection to the API server takes, and none of them in the way of others.
func (s *site) testManyWatches(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := s.watches(ctx, t, 400, "&fieldSelector=metadata.name%3Dmany")
	began := time.Now()
	got := s.do(t, "alice", http.MethodGet, core+"pods", "")
	assert.Equal(t, http.StatusOK, got.code)
	assert.Less(t, time.Since(began), 5*time.Second)
	s.configMap(t, "many", alice)
	for _, lines := range open {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		assert.Contains(t, line, `"many"`)
	}
	require.NoError(t, s.Client().CoreV1().ConfigMaps(space).Delete(ctx, "many", metav1.DeleteOptions{}))
}

// BenchmarkOverhead compares the API server with the selector asked for directly with the proxy, which adds it.
func BenchmarkOverhead(b *testing.B) {
	s := newSite(b)
	for at := range 200 {
		s.configMap(b, fmt.Sprintf("c-%d", at), []string{alice, bob}[at%2])
	}
	s.configMap(b, "only", alice)
	config := s.RESTConfig()
	client, err := rest.HTTPClientFor(rest.AnonymousClientConfig(config))
	require.NoError(b, err)
	direct := front{url: config.Host, client: client}
	selected := "labelSelector=" + url.QueryEscape(visible)
	ways := []struct {
		name, query string
		via         front
	}{{"direct", selected, direct}, {"proxy", "", s.front}}
	for _, way := range ways {
		b.Run("get/"+way.name, func(b *testing.B) {
			for b.Loop() {
				require.Equal(b, http.StatusOK, way.via.do(b, "alice", http.MethodGet, core+"configmaps/only", "").code)
			}
		})
		b.Run("list100/"+way.name, func(b *testing.B) {
			for b.Loop() {
				require.Equal(b, http.StatusOK, way.via.do(b, "alice", http.MethodGet, strings.TrimRight(core+"configmaps?"+way.query, "?"), "").code)
			}
		})
		b.Run("list100Parallel/"+way.name, func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(each *testing.PB) {
				for each.Next() {
					way.via.do(b, "alice", http.MethodGet, strings.TrimRight(core+"configmaps?"+way.query, "?"), "")
				}
			})
		})
		b.Run("event/"+way.name, func(b *testing.B) { s.benchmarkEvent(b, way.via, way.query) })
	}
}

// benchmarkEvent measures from before a change until its event is there.
func (s *site) benchmarkEvent(b *testing.B, via front, query string) {
	b.Helper()
	if query != "" {
		query = "&" + query
	}
	lines := via.watches(b.Context(), b, 1, "&fieldSelector=metadata.name%3Donly&resourceVersion=0"+query)[0]
	_, err := lines.ReadString('\n')
	require.NoError(b, err)
	object, err := s.Client().CoreV1().ConfigMaps(space).Get(b.Context(), "only", metav1.GetOptions{})
	require.NoError(b, err)
	client := s.Client()
	var took []time.Duration
	for b.Loop() {
		object.Data = map[string]string{"at": time.Now().String()}
		began := time.Now()
		object, err = client.CoreV1().ConfigMaps(space).Update(b.Context(), object, metav1.UpdateOptions{})
		require.NoError(b, err)
		_, err := lines.ReadString('\n')
		require.NoError(b, err)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
