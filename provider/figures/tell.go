// SPDX-License-Identifier: Apache-2.0

package figures

import (
	"context"
	"time"

	dto "github.com/prometheus/client_model/go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/cloudveneto/caas/internal/logging"
)

// Summary is the kubelet's /stats/summary. The node's figures are the sum of its
// pods: there is no machine of its own behind it.
func (f *Figures) Summary(ctx context.Context) (*statsv1alpha1.Summary, error) {
	if err := f.refresh(ctx); err != nil {
		return nil, err
	}
	node, pods := f.snapshot()
	summary := &statsv1alpha1.Summary{
		Node: statsv1alpha1.NodeStats{NodeName: f.cfg.Node, StartTime: metav1.NewTime(f.begun)},
		Pods: []statsv1alpha1.PodStats{},
	}
	if len(pods) > 0 {
		summary.Node.CPU, summary.Node.Memory = node.cpu(), node.workingSet()
	}
	for i := range pods {
		at := &pods[i]
		told := statsv1alpha1.PodStats{
			PodRef:    statsv1alpha1.PodReference{Name: at.name, Namespace: at.namespace, UID: string(at.uid)},
			StartTime: metav1.NewTime(at.started),
		}
		for _, name := range at.names {
			use := at.containers[name]
			told.Containers = append(told.Containers, statsv1alpha1.ContainerStats{
				Name: name, StartTime: metav1.NewTime(use.started), CPU: use.cpu(), Memory: use.workingSet(),
			})
		}
		sum := at.sum()
		told.CPU, told.Memory = sum.cpu(), sum.workingSet()
		summary.Pods = append(summary.Pods, told)
	}
	return summary, nil
}

// sum is the usage of all containers of a pod.
func (p *pod) sum() usage {
	sum := usage{seconds: p.past}
	for _, use := range p.containers {
		sum.nanoCores += use.nanoCores
		sum.memory += use.memory
		sum.grow(use.seconds, use.at)
	}
	return sum
}

func (u *usage) cpu() *statsv1alpha1.CPUStats {
	return &statsv1alpha1.CPUStats{
		Time: metav1.NewTime(u.at), UsageNanoCores: new(u.nanoCores), UsageCoreNanoSeconds: new(uint64(u.seconds * 1e9)),
	}
}

func (u *usage) workingSet() *statsv1alpha1.MemoryStats {
	return &statsv1alpha1.MemoryStats{Time: metav1.NewTime(u.at), WorkingSetBytes: new(u.memory)}
}

// Resource is the kubelet's /metrics/resource, which metrics servers read. Values
// carry the time at which they were measured. When the far end cannot be asked there
// is nothing but the mark of that.
func (f *Figures) Resource(ctx context.Context) ([]*dto.MetricFamily, error) {
	failed := 0.0
	if err := f.refresh(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		logging.From(ctx).WarnContext(ctx, "no figures", "error", err)
		failed = 1
	}
	families := newFamilies()
	if failed == 0 {
		node, pods := f.snapshot()
		if len(pods) > 0 {
			families.add(nodeCPU, node.at, node.seconds)
			families.add(nodeMemory, node.at, float64(node.memory))
		}
		for i := range pods {
			families.pod(&pods[i])
		}
	}
	families.add(scrapeError, time.Time{}, failed)
	return families.list(), nil
}
