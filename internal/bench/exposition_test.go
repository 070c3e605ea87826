// SPDX-License-Identifier: Apache-2.0

package bench_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/bench"
)

const exposed = `# HELP took Seconds.
# TYPE took histogram
took_bucket{le="1"} 0
took_bucket{le="2"} 50
took_bucket{le="4"} 100
took_bucket{le="+Inf"} 100
took_sum 230
took_count 100
requests_total{verb="GET",resource="pods"} 3
requests_total{verb="WATCH",resource="pods"} 5
requests_total{verb="PUT",resource="leases"} 7
requests_total_other 11
`

func TestExposition(t *testing.T) {
	t.Parallel()
	all, err := bench.ParseExposition(exposed)
	require.NoError(t, err)
	assert.InDelta(t, 2, all.Quantile("took", "", 0.5), 1e-9, "the upper end of the bucket that has half of them")
	assert.InDelta(t, 3.8, all.Quantile("took", "", 0.95), 1e-9)
	assert.True(t, math.IsNaN(all.Quantile("requests_total", "", 0.5)), "no histogram")
	assert.InDelta(t, 15, all.Sum("requests_total", nil, nil), 0)
	assert.InDelta(t, 3, all.Sum("requests_total", nil, []string{`verb="WATCH"`, `resource="leases"`}), 0)
	assert.InDelta(t, 8, all.Sum("requests_total", []string{`resource="pods"`}, nil), 0)
	later, err := bench.ParseExposition("took_count 102\nnew 1\n")
	require.NoError(t, err)
	assert.Equal(t, bench.Exposition{"took_count": 2, "new": 1}, later.Since(all))
	_, err = bench.ParseExposition("broken\n")
	require.ErrorContains(t, err, "broken")
}

const labelled = `# TYPE took histogram
took_bucket{result="accepted",le="0.001"} 0
took_bucket{result="accepted",le="0.002"} 50
took_bucket{result="accepted",le="0.004"} 100
took_bucket{result="accepted",le="+Inf"} 100
took_bucket{result="refused",le="0.001"} 10
took_bucket{result="refused",le="0.002"} 10
took_bucket{result="refused",le="0.004"} 10
took_bucket{result="refused",le="+Inf"} 10
took_sum{result="accepted"} 0.23
took_sum{result="refused"} 0.01
`

func TestExpositionOfSeveralSeries(t *testing.T) {
	t.Parallel()
	all, err := bench.ParseExposition(labelled)
	require.NoError(t, err)
	assert.InDelta(t, 0.002, all.Quantile("took", `result="accepted"`, 0.5), 1e-12, "of the series with the label")
	assert.InDelta(t, 0.0039, all.Quantile("took", `result="accepted"`, 0.975), 1e-12)
	assert.InDelta(t, 0.0019, all.Quantile("took", "", 0.5), 1e-12, "of all series together")
	assert.InDelta(t, 0.24, all.Sum("took_sum", nil, nil), 1e-9)
	assert.InDelta(t, 0.01, all.Sum("took_sum", []string{`result="refused"`}, nil), 1e-9)
	all["took_bucket{result=\"refused\",le=\"+Inf\"}"] = 20
	assert.InDelta(t, 0.004, all.Quantile("took", `result="refused"`, 0.95), 1e-12, "the last bound, for what is beyond it")
}
