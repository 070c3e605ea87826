// SPDX-License-Identifier: Apache-2.0

package figures

import (
	"time"

	dto "github.com/prometheus/client_model/go"
)

// family is a name with what a kubelet says of it (kubernetes:
// pkg/kubelet/metrics/collectors/resource_metrics.go).
type family struct {
	name, help string
	counter    bool
}

// The figures of /metrics/resource.
var (
	nodeCPU         = family{"node_cpu_usage_seconds_total", "CPU time used by the pods of the node, in core-seconds.", true}
	nodeMemory      = family{"node_memory_working_set_bytes", "Working set of the pods of the node, in bytes.", false}
	podCPU          = family{"pod_cpu_usage_seconds_total", "CPU time used by the pod, in core-seconds.", true}
	podMemory       = family{"pod_memory_working_set_bytes", "Working set of the pod, in bytes.", false}
	containerCPU    = family{"container_cpu_usage_seconds_total", "CPU time used by the container, in core-seconds.", true}
	containerMemory = family{"container_memory_working_set_bytes", "Working set of the container, in bytes.", false}
	containerStart  = family{"container_start_time_seconds", "Start of the container, in seconds since the epoch.", false}
	scrapeError     = family{"resource_scrape_error", "1 if the figures could not be had, 0 otherwise.", false}
)

// families collects figures, in the order in which their names come first.
type families struct {
	order  []*dto.MetricFamily
	byName map[string]*dto.MetricFamily
}

func newFamilies() *families { return &families{byName: map[string]*dto.MetricFamily{}} }

func (f *families) list() []*dto.MetricFamily { return f.order }

// add adds one figure; a zero time means now, labels are names and values in turn.
func (f *families) add(of family, at time.Time, value float64, labels ...string) {
	into := f.byName[of.name]
	if into == nil {
		kind := dto.MetricType_GAUGE
		if of.counter {
			kind = dto.MetricType_COUNTER
		}
		into = &dto.MetricFamily{Name: new(of.name), Help: new(of.help), Type: &kind}
		f.byName[of.name], f.order = into, append(f.order, into)
	}
	figure := &dto.Metric{}
	for i := 0; i+1 < len(labels); i += 2 {
		figure.Label = append(figure.Label, &dto.LabelPair{Name: new(labels[i]), Value: new(labels[i+1])})
	}
	if !at.IsZero() {
		figure.TimestampMs = new(at.UnixMilli())
	}
	if of.counter {
		figure.Counter = &dto.Counter{Value: &value}
	} else {
		figure.Gauge = &dto.Gauge{Value: &value}
	}
	into.Metric = append(into.Metric, figure)
}

// pod adds the figures of one pod and its containers.
func (f *families) pod(at *view) {
	sum := at.sum()
	f.add(podCPU, sum.at, sum.seconds, "namespace", at.namespace, "pod", at.name)
	f.add(podMemory, sum.at, float64(sum.memory), "namespace", at.namespace, "pod", at.name)
	for _, name := range at.names {
		use, labels := at.containers[name], []string{"container", name, "namespace", at.namespace, "pod", at.name}
		f.add(containerCPU, use.at, use.seconds, labels...)
		f.add(containerMemory, use.at, float64(use.memory), labels...)
		if !use.started.IsZero() {
			f.add(containerStart, time.Time{}, float64(use.started.UnixNano())/1e9, labels...)
		}
	}
}
