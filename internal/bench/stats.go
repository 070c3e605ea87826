// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"slices"
	"time"
)

// Percentile is the p-th percentile (0 to 100) of values by the nearest rank, in
// units; NaN without values.
func Percentile(values []time.Duration, p float64, unit time.Duration) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return float64(sorted[max(rank, 1)-1]) / float64(unit)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
