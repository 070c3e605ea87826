// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	all, err := parse(exposed)
	require.NoError(t, err)
	assert.InDelta(t, 2, all.quantile("took", 0.5), 1e-9, "the upper end of the bucket that has half of them")
	assert.InDelta(t, 3.8, all.quantile("took", 0.95), 1e-9)
	assert.InDelta(t, 15, all.sum("requests_total", nil, nil), 0)
	assert.InDelta(t, 3, all.sum("requests_total", nil, []string{`verb="WATCH"`, `resource="leases"`}), 0)
	assert.InDelta(t, 8, all.sum("requests_total", []string{`resource="pods"`}, nil), 0)
	_, err = parse("broken\n")
	require.ErrorContains(t, err, "broken")
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var values []time.Duration
	for i := range 20 {
		values = append(values, time.Duration(20-i)*time.Second)
	}
	assert.InDelta(t, 10, percentile(values, 50), 0)
	assert.InDelta(t, 19, percentile(values, 95), 0)
	assert.InDelta(t, 20, percentile(values, 100), 0)
}

func TestPublishReplacesFiguresOfTheSameName(t *testing.T) {
	t.Parallel()
	o := &options{out: filepath.Join(t.TempDir(), "out", "latest.json"), progress: io.Discard}
	for _, value := range []float64{1, 2} {
		report := &bench.Report{Progress: io.Discard}
		report.Add("one", value, "s", bench.Lower)
		report.Add("other", 10*value, "s", bench.Lower)
		report.Figures = report.Figures[:int(value)] // the second time both
		require.NoError(t, o.publish(report))
	}
	known, err := figures(o.out)
	require.NoError(t, err)
	require.Len(t, known, 2)
	assert.InDelta(t, 2, known[0].Value, 0)
	assert.Equal(t, "other", known[1].Name)
}

// nova answers as Nova does to a few requests.
func nova(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"server": {"id": "`+r.Header.Get("Id")+`"}}`)
	case http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		_, _ = io.WriteString(w, `{"servers": [{"id": "a"}, {"id": "b"}]}`)
	}
}

func TestLedgerKeepsWhatNovaAgreedTo(t *testing.T) {
	t.Parallel()
	l := newLedger()
	crashes := 0
	l.crash, l.lag, l.lagShare = func() { crashes++ }, time.Hour, 1
	handler := l.counted(l.wrap(http.HandlerFunc(nova)))
	do := func(method, path, id, body string) string {
		request := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		request.Header.Set("Id", id)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		return answer.Body.String()
	}
	const asked = `{"server": {"metadata": {"osn.infn.it:uid": "u"}}}`
	do(http.MethodPost, serversPath, "a", asked)
	assert.Equal(t, 1, l.count("u"))
	assert.JSONEq(t, `{"servers": [{"id": "b"}]}`, do(http.MethodGet, serversPath+"/detail", "", ""), "a is too new for lists")
	do(http.MethodPost, serversPath, "b", asked)
	assert.Equal(t, 2, l.count("u"))
	do(http.MethodDelete, serversPath+"/a", "", "")
	assert.Equal(t, 1, l.count("u"), "one that goes does not count")
	l.remove("a")
	l.remove("b")
	assert.Zero(t, l.count("u"))
	doubled, longest, requests := l.doubles()
	assert.Equal(t, 1, doubled)
	assert.Positive(t, longest)
	assert.Equal(t, 2, requests)
	assert.Equal(t, 3, crashes)
	assert.EqualValues(t, 4, l.calls.Load())
}

func TestShortPath(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "/u/1/v2.1/servers/ID", shortPath("/u/1/v2.1/servers/43b3d607-bd12-44a9-a049-2394f7ae4de8?x=y"))
	assert.Equal(t, "/u/1/v2.1/servers/detail", shortPath("/u/1/v2.1/servers/detail?name=a"))
}
