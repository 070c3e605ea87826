// SPDX-License-Identifier: Apache-2.0

package result_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/examples/montecarlo"
	"github.com/cloudveneto/caas/examples/montecarlo/result"
)

const testKey = "a key for tests"

func parseDeck(tb testing.TB, data string) *result.Deck {
	tb.Helper()
	deck, err := result.ParseDeck([]byte(data))
	require.NoError(tb, err)
	return deck
}

// line signs a result as the program does.
func line(payload, key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(payload))
	return fmt.Sprintf(`{"montecarlo":1,"result":%s,"signature":%q}`, payload, hex.EncodeToString(mac.Sum(nil)))
}

// sample is the log of an index whose tallies are drawn by counting histories with the given true probabilities.
func sample(tb testing.TB, deck *result.Deck, index int, uncollided, once float64) string {
	tb.Helper()
	const histories = 4000
	rng := rand.New(rand.NewPCG(7, uint64(index)))
	var direct, single int
	for range histories {
		switch u := rng.Float64(); {
		case u < uncollided:
			direct++
		case u < uncollided+once:
			single++
		}
	}
	payload, err := json.Marshal(map[string]any{
		"index": index, "histories": histories, "deckSHA256": deck.Digest(), "stream": fmt.Sprintf("stream-%d", index),
		"seconds": 0.5, "host": fmt.Sprintf("montecarlo-%d", index),
		"versions":      map[string]string{"python": "3", "numpy": "1"},
		"uncollided":    bernoulli(direct, histories, 1),
		"scattered":     bernoulli(single, histories, 1),
		"scatteredOnce": bernoulli(single, histories, 1),
		"doseScattered": bernoulli(single, histories, 500),
		"dose":          bernoulli(direct+single, histories, 500),
	})
	require.NoError(tb, err)
	return "some words first\n" + line(string(payload), testKey) + "\n"
}

func bernoulli(hits, histories int, score float64) result.Tally {
	n, p := float64(histories), float64(hits)/float64(histories)
	return result.Tally{Mean: score * p, Variance: score * score * p * (1 - p) * n / (n - 1)}
}

// samples are the parsed results of a whole run with the given truth.
func samples(tb testing.TB, deck *result.Deck, uncollided, once float64) []result.Result {
	tb.Helper()
	results := make([]result.Result, montecarlo.Completions)
	for index := range results {
		r, err := result.Parse(strings.NewReader(sample(tb, deck, index, uncollided, once)), []byte(testKey))
		require.NoError(tb, err)
		results[index] = r
	}
	return results
}
