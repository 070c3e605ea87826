// SPDX-License-Identifier: Apache-2.0

package result

import (
	"errors"
	"fmt"
	"math"
)

// MaxPull is the largest accepted distance between measurement and expectation in standard errors. Chance exceeds it
// once in 16,000 runs.
const MaxPull = 4.0

// Value is a measured quantity and its standard error.
type Value struct {
	Mean  float64
	Sigma float64
}

// Check compares a measured quantity with what it must be.
type Check struct {
	Expected float64
	Measured float64
	Sigma    float64 // standard error of Measured
	Pull     float64 // |Measured - Expected| / Sigma
}

// Report is the outcome of a whole run.
type Report struct {
	Indices       int
	Histories     int
	Seconds       float64 // of computing, summed over the indices
	Uncollided    Check   // share of photons that crossed the shield without a collision
	ScatteredOnce Check   // share of photons that left it after one collision
	Scattered     Value   // share of photons that left it after one or more collisions
	Dose          Value   // ambient dose equivalent rate at the detector, µSv/h
	Unshielded    float64 // the same without the shield, µSv/h
	BuildUp       Value   // Dose over the dose of the uncollided photons alone
}

// Combine pools the results of a run with the given number of completions. It fails, naming every problem, unless each
// index from 0 delivered exactly one result from this deck with a random stream of its own, and unless both checked
// quantities lie within MaxPull standard errors of their expectations. The report is nil if the results cannot be
// pooled; it is returned beside the error if they can but disagree.
func Combine(deck *Deck, completions int, results []Result) (*Report, error) {
	if err := complete(deck, completions, results); err != nil {
		return nil, fmt.Errorf("combine results: %w", err)
	}
	report := &Report{Indices: completions, Unshielded: deck.Unshielded()}
	for _, r := range results {
		report.Histories += r.Histories
		report.Seconds += r.Seconds
	}
	expected := deck.Transmission()
	report.Uncollided = compare(pool(results, func(r Result) Tally { return r.Uncollided }), expected)
	report.ScatteredOnce = compare(pool(results, func(r Result) Tally { return r.ScatteredOnce }), deck.SingleScatter())
	report.Scattered = pool(results, func(r Result) Tally { return r.Scattered })
	report.Dose = pool(results, func(r Result) Tally { return r.Dose })
	// The dose of the uncollided photons is known exactly, so only the scattered part carries an error.
	direct := expected * report.Unshielded
	part := pool(results, func(r Result) Tally { return r.DoseScattered })
	report.BuildUp = Value{Mean: 1 + part.Mean/direct, Sigma: part.Sigma / direct}

	err := errors.Join(report.Uncollided.verdict("uncollided"), report.ScatteredOnce.verdict("scattered once"))
	if err != nil {
		return report, fmt.Errorf("check results: %w", err)
	}
	return report, nil
}

// complete checks that the results are one whole run.
func complete(deck *Deck, completions int, results []Result) error {
	var problems []error
	indices, streams := map[int]bool{}, map[string]int{}
	for _, r := range results {
		if indices[r.Index] {
			problems = append(problems, fmt.Errorf("index %d: %w", r.Index, ErrDoubled))
			continue
		}
		indices[r.Index] = true
		if r.Index >= completions {
			problems = append(problems, fmt.Errorf("index %d of %d: %w", r.Index, completions, ErrMalformed))
		}
		if r.Deck != deck.digest {
			problems = append(problems, fmt.Errorf("index %d: %w", r.Index, ErrDeck))
		}
		if other, ok := streams[r.Stream]; ok {
			problems = append(problems, fmt.Errorf("random stream of indices %d and %d: %w", other, r.Index, ErrDoubled))
		}
		streams[r.Stream] = r.Index
	}
	for index := range completions {
		if !indices[index] {
			problems = append(problems, fmt.Errorf("index %d: %w", index, ErrMissing))
		}
	}
	return errors.Join(problems...)
}

// pool weights each index by its histories, which gives what one long run would have given.
func pool(results []Result, pick func(Result) Tally) Value {
	var histories, sum, variance float64
	for _, r := range results {
		n, tally := float64(r.Histories), pick(r)
		histories += n
		sum += n * tally.Mean
		variance += n * tally.Variance
	}
	return Value{Mean: sum / histories, Sigma: math.Sqrt(variance) / histories}
}

func compare(measured Value, expected float64) Check {
	c := Check{Expected: expected, Measured: measured.Mean, Sigma: measured.Sigma}
	c.Pull = math.Abs(c.Measured-c.Expected) / c.Sigma
	return c
}

// verdict is an error if the check failed. A standard error of zero means that nothing was counted: it fails too.
func (c Check) verdict(name string) error {
	if c.Sigma > 0 && c.Pull <= MaxPull {
		return nil
	}
	return fmt.Errorf("%s: measured %.6g ± %.2g, expected %.6g, pull %.1f: %w",
		name, c.Measured, c.Sigma, c.Expected, c.Pull, ErrDisagree)
}
