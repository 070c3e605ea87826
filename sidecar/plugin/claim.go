// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudveneto/caas/sidecar/plugin/claims"
)

// countClaims registers the metrics of created claims, and returns what to call for
// each one that is made.
func countClaims(registry prometheus.Registerer, keeper *claims.Keeper) (created func(), err error) {
	count := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "caas_sidecar_claims_created_total", Help: "Claims that were made for pods.",
	})
	removed := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "caas_sidecar_claims_removed_total", Help: "Claims that were deleted after their last pod.",
	}, func() float64 { return float64(keeper.Removed()) })
	temporary := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "caas_sidecar_claims", Help: "Claims that were made for pods and are to be deleted after the last one.",
	}, func() float64 { return float64(keeper.Len()) })
	if err := errors.Join(registry.Register(count), registry.Register(removed), registry.Register(temporary)); err != nil {
		return nil, fmt.Errorf("claim metrics: %w", err)
	}
	return count.Inc, nil
}
