// SPDX-License-Identifier: Apache-2.0

package result_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/examples/montecarlo"
	"github.com/cloudveneto/caas/examples/montecarlo/result"
)

func TestParse(t *testing.T) {
	t.Parallel()
	deck := parseDeck(t, montecarlo.Deck())
	good := sample(t, deck, 3, 0.1, 0.2)
	tests := map[string]struct {
		log, key string
		err      error
	}{
		"good":                 {log: good, key: testKey},
		"without last newline": {log: strings.TrimSpace(good), key: testKey},
		"empty log":            {log: "", key: testKey, err: result.ErrNoResult},
		"only words":           {log: "Traceback (most recent call last):\n", key: testKey, err: result.ErrNoResult},
		"cut in the line":      {log: good[:len(good)-20], key: testKey, err: result.ErrMalformed},
		"two lines":            {log: good + good, key: testKey, err: result.ErrDoubled},
		"other key":            {log: good, key: "another", err: result.ErrSignature},
		"no key":               {log: good, key: "", err: result.ErrSignature},
		"changed tally":        {log: strings.Replace(good, `"histories":4000`, `"histories":4001`, 1), key: testKey, err: result.ErrSignature},
		"signature not hex":    {log: strings.Replace(good, `"signature":"`, `"signature":"zz`, 1), key: testKey, err: result.ErrSignature},
		"other version":        {log: strings.Replace(good, `"montecarlo":1`, `"montecarlo":2`, 1), key: testKey, err: result.ErrMalformed},
		"signed nonsense":      {log: line(`"hello"`, testKey), key: testKey, err: result.ErrMalformed},
		"signed, no histories": {log: line(`{"index":1,"stream":"s"}`, testKey), key: testKey, err: result.ErrMalformed},
		"signed, negative": {
			log: line(`{"index":1,"stream":"s","histories":9,"dose":{"mean":-1}}`, testKey),
			key: testKey, err: result.ErrMalformed,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := result.Parse(strings.NewReader(tt.log), []byte(tt.key))
			if tt.err != nil {
				require.ErrorIs(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, 3, r.Index)
			assert.Equal(t, 4000, r.Histories)
			assert.Equal(t, deck.Digest(), r.Deck)
			assert.Equal(t, "montecarlo-3", r.Host)
			assert.InDelta(t, 0.1, r.Uncollided.Mean, 0.02)
		})
	}
}

func FuzzParse(f *testing.F) {
	deck := parseDeck(f, montecarlo.Deck())
	f.Add(sample(f, deck, 0, 0.1, 0.2))
	f.Add(line(`{"index":-1}`, testKey))
	f.Add(`{"montecarlo":1,"result":null,"signature":""}`)
	f.Fuzz(func(t *testing.T, log string) {
		r, err := result.Parse(strings.NewReader(log), []byte(testKey))
		if err == nil {
			assert.GreaterOrEqual(t, r.Histories, 2)
			assert.GreaterOrEqual(t, r.Index, 0)
		}
	})
}

func FuzzParseDeck(f *testing.F) {
	f.Add([]byte(montecarlo.Deck()))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		deck, err := result.ParseDeck(data)
		if err == nil {
			transmission := deck.Transmission()
			assert.True(t, transmission >= 0 && transmission <= 1, "transmission %v", transmission)
		}
	})
}
