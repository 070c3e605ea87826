// SPDX-License-Identifier: Apache-2.0

package result

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// maxLine bounds one line of a log; a result line has about 1 KB.
const maxLine = 1 << 20

// Tally is the mean score of a history and the sample variance of one history.
type Tally struct {
	Mean     float64 `json:"mean"`
	Variance float64 `json:"variance"`
}

// Result is what one index computed. The first three tallies are shares of the emitted photons, the last two are dose
// rates in µSv/h.
type Result struct {
	Index     int     `json:"index"`
	Histories int     `json:"histories"`
	Deck      string  `json:"deckSHA256"`
	Stream    string  `json:"stream"`
	Seconds   float64 `json:"seconds"`
	Host      string  `json:"host"`
	Versions  struct {
		Python string `json:"python"`
		NumPy  string `json:"numpy"`
	} `json:"versions"`
	Uncollided    Tally `json:"uncollided"`
	Scattered     Tally `json:"scattered"`
	ScatteredOnce Tally `json:"scatteredOnce"`
	DoseScattered Tally `json:"doseScattered"`
	Dose          Tally `json:"dose"`
}

// Parse finds the one result line in the log of a pod and verifies its signature with the run's key before it looks at
// the content. Other lines are passed over. The log must be without the runtime's timestamps.
func Parse(log io.Reader, key []byte) (Result, error) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxLine)
	var found []byte
	for lines.Scan() {
		if !bytes.HasPrefix(lines.Bytes(), []byte(`{"montecarlo":`)) {
			continue
		}
		if found != nil {
			return Result{}, fmt.Errorf("read log: result line %w", ErrDoubled)
		}
		found = bytes.Clone(lines.Bytes())
	}
	if err := lines.Err(); err != nil {
		return Result{}, fmt.Errorf("read log: %w", err)
	}
	if found == nil {
		return Result{}, fmt.Errorf("read log: %w", ErrNoResult)
	}
	return open(found, key)
}

// open verifies and decodes a result line. The signature covers the bytes of the result as they stand in the line.
func open(line, key []byte) (Result, error) {
	var envelope struct {
		Version   int             `json:"montecarlo"`
		Result    json.RawMessage `json:"result"`
		Signature string          `json:"signature"`
	}
	if err := json.Unmarshal(line, &envelope); err != nil {
		return Result{}, fmt.Errorf("read result: %w: %w", ErrMalformed, err)
	}
	if envelope.Version != 1 {
		return Result{}, fmt.Errorf("read result: %w: version %d is not known", ErrMalformed, envelope.Version)
	}
	given, err := hex.DecodeString(envelope.Signature)
	mac := hmac.New(sha256.New, key)
	mac.Write(envelope.Result)
	if err != nil || len(key) == 0 || !hmac.Equal(mac.Sum(nil), given) {
		return Result{}, fmt.Errorf("verify result: %w", ErrSignature)
	}
	var r Result
	if err := json.Unmarshal(envelope.Result, &r); err != nil {
		return Result{}, fmt.Errorf("read result: %w: %w", ErrMalformed, err)
	}
	if r.Index < 0 || r.Histories < 2 || r.Stream == "" {
		return Result{}, fmt.Errorf("read result: %w: index, histories or stream is missing", ErrMalformed)
	}
	for _, tally := range []Tally{r.Uncollided, r.Scattered, r.ScatteredOnce, r.DoseScattered, r.Dose} {
		if tally.Mean < 0 || tally.Variance < 0 {
			return Result{}, fmt.Errorf("read result: %w: a tally is negative", ErrMalformed)
		}
	}
	return r, nil
}
