// SPDX-License-Identifier: Apache-2.0

package bench_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/bench"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	var values []time.Duration
	for i := range 20 {
		values = append(values, time.Duration(20-i)*time.Second)
	}
	assert.InDelta(t, 10, bench.Percentile(values, 50, time.Second), 0)
	assert.InDelta(t, 19_000, bench.Percentile(values, 95, time.Millisecond), 0)
	assert.InDelta(t, 20, bench.Percentile(values, 100, time.Second), 0)
}

func TestPublishReplacesFiguresOfTheSameName(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "out", "latest.json")
	require.NoError(t, (&bench.Report{Progress: io.Discard}).Publish(file))
	assert.NoFileExists(t, file, "no figures")
	for _, value := range []float64{1, 2} {
		report := &bench.Report{Progress: io.Discard}
		report.Add("one", value, "s", bench.Lower)
		report.Add("other", 10*value, "s", bench.Lower)
		report.Figures = report.Figures[:int(value)] // the second time both
		require.NoError(t, report.Publish(file))
	}
	known, err := bench.ReadFigures(file)
	require.NoError(t, err)
	require.Len(t, known, 2)
	assert.InDelta(t, 2, known[0].Value, 0)
	assert.Equal(t, "other", known[1].Name)
	require.NoError(t, os.WriteFile(file, []byte("no figure\n"), 0o600))
	report := &bench.Report{Progress: io.Discard}
	report.Add("one", 1, "s", bench.Lower)
	require.ErrorContains(t, report.Publish(file), file, "what cannot be read is not written over")
}

func TestChoose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "there"), nil, 0o600))
	all := []bench.Part{{Name: "a"}, {Name: "b", Programs: []string{"there"}}, {Name: "c", Programs: []string{"there", "missing"}}}
	chosen, err := bench.Choose(all, dir, "b", "a")
	require.NoError(t, err)
	require.Len(t, chosen, 2)
	assert.Equal(t, "a", chosen[0].Name)
	_, err = bench.Choose(all, dir)
	require.ErrorContains(t, err, "program missing")
	_, err = bench.Choose(all, dir, "a", "d")
	require.ErrorContains(t, err, `--focus "d": want one of a, b, c`)
}

func TestRunGoesOnAfterFailures(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	report := &bench.Report{Progress: &out}
	failure := errors.New("no")
	err := report.Run(ctx, []bench.Part{
		{Name: "a", Run: func(context.Context, *bench.Report) error { return failure }},
		{Name: "b", Run: func(_ context.Context, report *bench.Report) error {
			report.Add("one", 1, "s", bench.Lower)
			cancel()
			return nil
		}},
		{Name: "c", Run: func(context.Context, *bench.Report) error { return errors.New("it was cancelled") }},
	})
	require.ErrorIs(t, err, failure)
	require.EqualError(t, err, "measure a: no")
	assert.Len(t, report.Figures, 1)
	assert.Contains(t, out.String(), "a\nb\n")
	assert.NotContains(t, out.String(), "c\n")
}
