// SPDX-License-Identifier: Apache-2.0

package result_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/examples/montecarlo"
	"github.com/cloudveneto/caas/examples/montecarlo/result"
)

func TestCombineFindsTheTruth(t *testing.T) {
	t.Parallel()
	deck := parseDeck(t, montecarlo.Deck())
	p, q := deck.Transmission(), deck.SingleScatter()
	report, err := result.Combine(deck, montecarlo.Completions, samples(t, deck, p, q))
	require.NoError(t, err)

	n := 4000.0 * montecarlo.Completions
	assert.Equal(t, montecarlo.Completions, report.Indices)
	assert.Equal(t, int(n), report.Histories)
	assert.InDelta(t, 10, report.Seconds, 1e-9)
	assert.InEpsilon(t, p, report.Uncollided.Expected, 1e-12)
	assert.InEpsilon(t, math.Sqrt(p*(1-p)/n), report.Uncollided.Sigma, 0.03)
	assert.InEpsilon(t, math.Sqrt(q*(1-q)/n), report.ScatteredOnce.Sigma, 0.03)
	assert.InEpsilon(t, math.Abs(report.Uncollided.Measured-p)/report.Uncollided.Sigma, report.Uncollided.Pull, 1e-9)
	assert.InDelta(t, 500*(p+q), report.Dose.Mean, 4*report.Dose.Sigma)
	assert.InDelta(t, 1+500*q/(p*deck.Unshielded()), report.BuildUp.Mean, 4*report.BuildUp.Sigma)
}

// Indices with more histories weigh more: the mean must be that of all histories together.
func TestCombineWeighsByHistories(t *testing.T) {
	t.Parallel()
	deck := parseDeck(t, montecarlo.Deck())
	p, q := deck.Transmission(), deck.SingleScatter()
	tally := func(n int, p float64) result.Tally { return bernoulli(int(math.Round(p*float64(n))), n, 1) }
	results := make([]result.Result, 2)
	for i, n := range []int{100_000, 300_000} {
		shift := 0.0003 * float64(3-4*i) // +0.0009 on one part, -0.0003 on three: together the truth
		results[i] = result.Result{
			Index: i, Histories: n, Deck: deck.Digest(), Stream: string(rune('a' + i)),
			Uncollided: tally(n, p+shift), ScatteredOnce: tally(n, q),
		}
	}
	report, err := result.Combine(deck, 2, results)
	require.NoError(t, err)
	assert.InDelta(t, p, report.Uncollided.Measured, 1e-5)
}

func TestCombineRefuses(t *testing.T) {
	t.Parallel()
	deck := parseDeck(t, montecarlo.Deck())
	p, q := deck.Transmission(), deck.SingleScatter()
	tests := map[string]struct {
		change func([]result.Result) []result.Result
		err    error
		text   string
	}{
		"nothing": {
			func([]result.Result) []result.Result { return nil }, result.ErrMissing, "index 19: no result was delivered",
		},
		"index absent": {
			func(r []result.Result) []result.Result { return append(r[:5:5], r[6:]...) },
			result.ErrMissing, "index 5: no result was delivered",
		},
		"index doubled": {
			func(r []result.Result) []result.Result { return append(r, r[7]) }, result.ErrDoubled, "index 7: occurs twice",
		},
		"index doubled and absent": {
			func(r []result.Result) []result.Result { r[4] = r[9]; return r }, result.ErrMissing, "index 9: occurs twice",
		},
		"index too large": {
			func(r []result.Result) []result.Result { r[3].Index = 20; return r }, result.ErrMalformed, "index 20 of 20",
		},
		"equal streams": {
			func(r []result.Result) []result.Result { r[3].Stream = r[2].Stream; return r },
			result.ErrDoubled, "random stream of indices 2 and 3",
		},
		"other deck": {
			func(r []result.Result) []result.Result { r[0].Deck = "0"; return r }, result.ErrDeck, "index 0: computed from another deck",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report, err := result.Combine(deck, montecarlo.Completions, tt.change(samples(t, deck, p, q)))
			require.ErrorIs(t, err, tt.err)
			require.ErrorContains(t, err, tt.text)
			assert.Nil(t, report)
		})
	}
}

func TestCombineReportsDisagreement(t *testing.T) {
	t.Parallel()
	deck := parseDeck(t, montecarlo.Deck())
	p, q := deck.Transmission(), deck.SingleScatter()
	tests := map[string]struct {
		uncollided, once float64
		text             string
	}{
		"too transparent":     {p * 1.2, q, "uncollided: measured"},
		"too little scatter":  {p, q * 0.8, "scattered once: measured"},
		"nothing was counted": {0, q, "uncollided: measured 0 "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report, err := result.Combine(deck, montecarlo.Completions, samples(t, deck, tt.uncollided, tt.once))
			require.ErrorIs(t, err, result.ErrDisagree)
			require.ErrorContains(t, err, tt.text)
			require.NotNil(t, report)
			assert.Greater(t, max(report.Uncollided.Pull, report.ScatteredOnce.Pull), result.MaxPull)
		})
	}
}
