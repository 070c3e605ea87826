// SPDX-License-Identifier: Apache-2.0

package bench_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/bench"
)

func TestPick(t *testing.T) {
	t.Parallel()
	all, err := bench.Pick()
	require.NoError(t, err)
	assert.Len(t, all, len(bench.Scenarios()))
	some, err := bench.Pick("idle", "waves")
	require.NoError(t, err)
	require.Len(t, some, 2)
	assert.Equal(t, "waves", some[0].Name, "in the order in which they are made")
	assert.Equal(t, "idle", some[1].Name)
	_, err = bench.Pick("idle", "burst")
	require.ErrorContains(t, err, `no scenario "burst": there are one, twenty, logs, bursts`)
	for _, scenario := range all {
		assert.NotEmpty(t, scenario.About, scenario.Name)
	}
}

func TestWaves(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		most       int
		rise, fall []int
	}{
		"three hundred": {300, []int{19, 38, 75, 150, 300}, []int{225, 169, 127, 96, 72, 54, 41, 31, 24, 0}},
		"few":           {5, []int{1, 2, 3, 5}, []int{4, 3, 0}},
		"one":           {1, []int{1}, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.rise, bench.Rise(test.most))
			assert.Equal(t, test.fall, bench.Fall(test.most))
		})
	}
	for before := 1; before <= 1000; before++ {
		at := before
		for _, size := range bench.Fall(before) {
			if size > 0 {
				assert.LessOrEqual(t, at-size, max(at/4, 1), "from %d to %d of %d", at, size, before)
			}
			assert.Less(t, size, at)
			at = size
		}
	}
}

func TestWorkerOf(t *testing.T) {
	t.Parallel()
	for pod, worker := range map[string]string{
		"analysis-default-worker-0123456789-5f4d8c7b9-x2x4z": "analysis-default-worker-0123456789",
		"analysis": "",
		"":         "",
	} {
		assert.Equal(t, worker, bench.WorkerOf(pod), pod)
	}
}

const served = `apiserver_request_total{code="201",group="",resource="pods",subresource="",verb="POST"} 20
apiserver_request_total{code="409",group="",resource="pods",subresource="",verb="POST"} 1
apiserver_request_total{code="200",group="",resource="pods",subresource="status",verb="PATCH"} 45
apiserver_request_total{code="200",group="",resource="pods",subresource="",verb="LIST"} 3
apiserver_request_total{code="200",group="",resource="pods",subresource="",verb="GET"} 4
apiserver_request_total{code="200",group="",resource="pods",subresource="",verb="WATCH"} 100
apiserver_request_total{code="200",group="",resource="nodes",subresource="",verb="GET"} 1
apiserver_request_total{code="200",group="coordination.k8s.io",resource="leases",subresource="",verb="PUT"} 30
apiserver_request_total{code="200",group="",resource="",subresource="/metrics",verb="GET"} 2
apiserver_request_duration_seconds_count{resource="pods",verb="POST"} 20
`

func TestRequests(t *testing.T) {
	t.Parallel()
	after, err := bench.ParseExposition(served)
	require.NoError(t, err)
	before, err := bench.ParseExposition(`apiserver_request_total{code="200",group="",resource="pods",subresource="status",verb="PATCH"} 5
apiserver_request_total{code="200",group="",resource="pods",subresource="",verb="DELETE"} 10
`)
	require.NoError(t, err)
	total, reads, most := bench.Requests(after, before, 20)
	assert.InDelta(t, 20+1+40+3+4+1+2-10, total, 0)
	assert.InDelta(t, 7, reads, 0)
	assert.Equal(t, "PATCH pods/status 2.0, POST pods 1.1, GET pods 0.2, LIST pods 0.1, GET /metrics 0.1, DELETE pods -0.5", most)
}
