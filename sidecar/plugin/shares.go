// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudveneto/caas/sidecar/plugin/demand"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

// shares shows what clients may take and what they take. It is reckoned when asked for.
type shares struct {
	pods        *table.Table
	share       corev1.ResourceList
	limit, used *prometheus.Desc
}

func newShares(pods *table.Table, share corev1.ResourceList) *shares {
	labels := []string{"resource"}
	return &shares{
		pods: pods, share: share,
		limit: prometheus.NewDesc("caas_sidecar_share", "What the pods of one client may take together.", labels, nil),
		used:  prometheus.NewDesc("caas_sidecar_share_used", "What pods take of resources that a share limits, those that are being created too.", labels, nil),
	}
}

// Describe implements prometheus.Collector.
func (s *shares) Describe(to chan<- *prometheus.Desc) {
	to <- s.limit
	to <- s.used
}

// Collect implements prometheus.Collector.
func (s *shares) Collect(to chan<- prometheus.Metric) {
	if len(s.share) == 0 {
		return
	}
	used := corev1.ResourceList{}
	for _, list := range s.pods.Used() {
		demand.Add(used, list)
	}
	for name, limit := range s.share {
		taken := used[name]
		to <- gauge(s.limit, limit, name)
		to <- gauge(s.used, taken, name)
	}
}

func gauge(what *prometheus.Desc, value resource.Quantity, name corev1.ResourceName) prometheus.Metric { //nolint:ireturn // prometheus' metrics are interfaces
	metric, err := prometheus.NewConstMetric(what, prometheus.GaugeValue, value.AsApproximateFloat64(), string(name))
	if err != nil {
		return prometheus.NewInvalidMetric(what, err)
	}
	return metric
}
