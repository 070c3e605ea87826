// SPDX-License-Identifier: Apache-2.0

package usage

import "github.com/prometheus/client_golang/prometheus"

// collector exports a meter's totals as they are when Prometheus asks.
type collector struct{ meter *Meter }

type series struct {
	desc  *prometheus.Desc
	value func(Total) float64
}

func allSeries() []series {
	labels := []string{"namespace", "projectid", "projectname", "userid", "username", "flavor", "gpu"}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("osn_usage_"+name, help, labels, nil)
	}
	return []series{
		{desc("node_hours_total", "Hours that virtual machines of OpenStackNodes existed."), func(t Total) float64 { return t.Nodes }},
		{desc("vcpu_hours_total", "Hours of virtual CPUs of OpenStackNodes."), func(t Total) float64 { return t.VCPUs }},
		{desc("memory_gib_hours_total", "Hours of GiB of memory of OpenStackNodes."), func(t Total) float64 { return t.MemoryGiB }},
		{desc("gpu_hours_total", "Hours of GPUs of OpenStackNodes."), func(t Total) float64 { return t.GPUs }},
	}
}

// Describe implements prometheus.Collector.
func (c collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, s := range allSeries() {
		descriptions <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	all := allSeries()
	totals, _ := c.meter.state()
	for account, total := range totals {
		for _, s := range all {
			metric, err := prometheus.NewConstMetric(s.desc, prometheus.CounterValue, s.value(total),
				account.Namespace, account.ProjectID, account.ProjectName, account.UserID, account.UserName, account.Flavor, account.GPU)
			if err != nil {
				metric = prometheus.NewInvalidMetric(s.desc, err)
			}
			metrics <- metric
		}
	}
}
