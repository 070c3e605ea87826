// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/demand"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

// CapacityConfig says which nodes count as the virtual node's capacity.
type CapacityConfig struct {
	// Disabled leaves the virtual node's capacity to its own configuration.
	Disabled bool
	// NodeSelector is a label selector for the nodes that count; empty is all.
	NodeSelector string
	// Tolerations are taints that do not stop a node from counting.
	Tolerations []corev1.Toleration
	// Static is reported when nodes are not visible.
	Static corev1.ResourceList
	// Share is what the pods of one client may take together; what it does not name is
	// not limited.
	Share corev1.ResourceList
	// Names maps target resource names to those of the origin.
	Names map[corev1.ResourceName]corev1.ResourceName
	// Labels are the keys of the nodes' labels that the virtual node has, too.
	Labels []string

	selector labels.Selector
}

func (c *CapacityConfig) complete() error {
	selector, err := labels.Parse(c.NodeSelector)
	if err != nil {
		return fmt.Errorf("capacity node selector %q: %w", c.NodeSelector, err)
	}
	c.selector = selector
	return nil
}

// Capacity is what a virtual node has to offer to the pods of selection: what the
// nodes have, less what others use. Pods of the selection itself are not
// subtracted; the origin's scheduler does that. It is nil when nothing is known.
func (w *Watcher) Capacity(selection table.Selection) *interlink.PingResources {
	w.mu.Lock()
	seesNodes := w.seesNodes
	free := w.freeNodes()
	quotas := slices.Collect(maps.Values(w.quotas))
	w.mu.Unlock()
	if w.config.Capacity.Disabled {
		return nil
	}
	own, mates := corev1.ResourceList{}, corev1.ResourceList{}
	w.config.Table.Each(func(key table.Key, pod *corev1.Pod) {
		if terminal(pod) {
			return
		}
		taken := demand.Of(pod)
		if selection.Matches(pod) {
			demand.Add(own, taken)
			return
		}
		if key.Origin == selection.Origin {
			demand.Add(mates, taken)
		}
		if room, counted := free[pod.Spec.NodeName]; counted {
			demand.Subtract(room, taken)
		}
	})
	share := w.config.Capacity.Share.DeepCopy()
	demand.Subtract(share, mates)
	if !seesNodes {
		return w.answer(atMost(w.config.Capacity.Static, share, true))
	}
	total := corev1.ResourceList{}
	for _, room := range free {
		demand.Add(total, room)
	}
	for _, quota := range quotas {
		limitByQuota(total, own, quota)
	}
	return w.answer(atMost(total, share, false))
}

// atMost is total with nothing larger than in share. What total does not name is taken
// from share where total is only somebody's guess, and is nothing where it was seen.
func atMost(total, share corev1.ResourceList, guessed bool) corev1.ResourceList {
	limited := total.DeepCopy()
	for name, limit := range share {
		room, offered := total[name]
		if offered && limit.Cmp(room) < 0 || !offered && guessed {
			if limited == nil {
				limited = corev1.ResourceList{}
			}
			limited[name] = limit
		}
	}
	return limited
}

// freeNodes returns, per node that counts, what foreign pods leave; the caller
// holds the lock.
func (w *Watcher) freeNodes() map[string]corev1.ResourceList {
	free := map[string]corev1.ResourceList{}
	for _, node := range w.nodes {
		if w.counts(node) {
			free[node.Name] = node.Status.Allocatable.DeepCopy()
		}
	}
	for _, pod := range w.others {
		if room, counted := free[pod.Spec.NodeName]; counted {
			demand.Subtract(room, demand.WithPod(pod.Spec.Resources.Requests))
		}
	}
	return free
}

func (w *Watcher) counts(node *corev1.Node) bool {
	ready := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	repelled := slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool {
		return taint.Effect != corev1.TaintEffectPreferNoSchedule && !slices.ContainsFunc(w.config.Capacity.Tolerations,
			func(t corev1.Toleration) bool { return tolerates(t, taint) })
	})
	return ready && !node.Spec.Unschedulable && !repelled && w.config.Capacity.selector.Matches(labels.Set(node.Labels))
}

func tolerates(toleration corev1.Toleration, taint corev1.Taint) bool {
	return (toleration.Effect == "" || toleration.Effect == taint.Effect) &&
		(toleration.Key == "" || toleration.Key == taint.Key) &&
		(toleration.Operator == corev1.TolerationOpExists || toleration.Value == taint.Value)
}

// limitByQuota lowers total to what a quota leaves to the own pods.
func limitByQuota(total, own corev1.ResourceList, quota *corev1.ResourceQuota) {
	if len(quota.Spec.Scopes) > 0 || quota.Spec.ScopeSelector != nil {
		return
	}
	for name, hard := range quota.Status.Hard {
		target := corev1.ResourceName(strings.TrimPrefix(strings.TrimPrefix(string(name), "requests."), "count/"))
		room, offered := total[target]
		if !offered {
			continue
		}
		left := hard.DeepCopy()
		left.Sub(quota.Status.Used[name])
		left.Add(own[target])
		if left.Cmp(room) < 0 {
			total[target] = left
		}
	}
}

// answer puts resources into the wire's form. Zero of cpu or memory would drain the
// virtual node upstream, so it is left out.
func (w *Watcher) answer(total corev1.ResourceList) *interlink.PingResources {
	out := &interlink.PingResources{
		CPU: positive(total, corev1.ResourceCPU), Memory: positive(total, corev1.ResourceMemory), Pods: positive(total, corev1.ResourcePods),
	}
	names := slices.Sorted(maps.Keys(total))
	for _, name := range names {
		quantity := total[name]
		if !travels(name, quantity) {
			continue
		}
		shown := name
		if origin, mapped := w.config.Capacity.Names[name]; mapped {
			shown = origin
		}
		out.Accelerators = append(out.Accelerators, interlink.PingAccelerator{
			ResourceType: string(shown), Available: fmt.Sprint(max(quantity.Value(), 0)),
		})
	}
	if out.CPU == "" && out.Memory == "" && out.Pods == "" && len(out.Accelerators) == 0 {
		return nil
	}
	return out
}

// travels tells what goes into the list that the wire has for all other resources: those
// with a vendor's name, and what a scheduler would otherwise believe to be absent. No
// pod that asks for ephemeral storage is bound to a node that says nothing of it.
func travels(name corev1.ResourceName, quantity resource.Quantity) bool {
	if strings.Contains(string(name), "/") {
		return true
	}
	other := name == corev1.ResourceEphemeralStorage || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
	return other && quantity.Sign() > 0
}

func positive(total corev1.ResourceList, name corev1.ResourceName) string {
	quantity, found := total[name]
	if !found || quantity.Sign() <= 0 {
		return ""
	}
	return quantity.String()
}
