// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Exposition is what a program says about itself: values by series, in Prometheus' form.
type Exposition map[string]float64

// ParseExposition reads what a program serves as its metrics.
func ParseExposition(text string) (Exposition, error) {
	all := Exposition{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		all[line[:max(at, 0)]] = value
	}
	return all, nil
}

// Since is what was counted after before.
func (e Exposition) Since(before Exposition) Exposition {
	grown := Exposition{}
	for series, value := range e {
		grown[series] = value - before[series]
	}
	return grown
}

// Sum adds the series of a name whose labels have all of with and none of without.
func (e Exposition) Sum(name string, with, without []string) float64 {
	var total float64
	for series, value := range e {
		labels, found := strings.CutPrefix(series, name)
		if !found || labels != "" && labels[0] != '{' {
			continue
		}
		has := func(label string) bool { return strings.Contains(labels, label) }
		if !slices.ContainsFunc(without, has) && !slices.ContainsFunc(with, func(label string) bool { return !has(label) }) {
			total += value
		}
	}
	return total
}

// Quantile estimates a quantile of a histogram as Prometheus does, linearly within a bucket, of all its series whose labels
// have label.
func (e Exposition) Quantile(name, label string, q float64) float64 {
	counts := map[float64]float64{}
	for series, count := range e {
		if !strings.HasPrefix(series, name+"_bucket{") || !strings.Contains(series, label) {
			continue
		}
		_, rest, _ := strings.Cut(series, `le="`)
		text, _, _ := strings.Cut(rest, `"`)
		if bound, err := strconv.ParseFloat(text, 64); err == nil {
			counts[bound] += count
		}
	}
	bounds := slices.Sorted(maps.Keys(counts))
	if len(bounds) == 0 || counts[bounds[len(bounds)-1]] == 0 {
		return math.NaN()
	}
	rank, lower, below := q*counts[bounds[len(bounds)-1]], 0.0, 0.0
	for _, bound := range bounds {
		if math.IsInf(bound, 1) {
			break
		}
		if counts[bound] >= rank {
			return lower + (bound-lower)*(rank-below)/(counts[bound]-below)
		}
		lower, below = bound, counts[bound]
	}
	return lower
}
