// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Node is a machine that is there, or on its way.
type Node struct {
	// Name is unique among all nodes.
	Name string
	// Object has the labels and taints that the node has, or will have.
	Object *corev1.Node
	// Allocatable is what it has when it is empty, Free what is left of that.
	Allocatable, Free Resources
	// Ready is false while the node is on its way.
	Ready bool
}

// Group are the machines that a pool could have more of: those of one flavor.
type Group struct {
	Pool   types.NamespacedName
	Flavor string
	// Account names the quota that the machines count for.
	Account string
	// Template is what a new node will look like.
	Template    *corev1.Node
	Allocatable Resources
	// VCPUs, MemoryMiB and GPUs are the flavor's.
	VCPUs, MemoryMiB, GPUs int
	// Blocked says why no such machine can be made now; empty if it can.
	Blocked Refusal
}

// Pool is what the groups of a pool have in common.
type Pool struct {
	// Room is how many more nodes it may have, Max how many in all.
	Room, Max int
	// Serves are the namespaces whose pods may use it.
	Serves map[string]bool
}

// Quota is what is left of a project's quota. Less than 0 is no limit.
type Quota struct{ Cores, Instances, MemoryMiB int }

// Input is everything that a decision depends on.
type Input struct {
	Pods   []Pod
	Nodes  []Node
	Groups []Group
	Pools  map[types.NamespacedName]Pool
	// Quotas are by Group.Account; an account without one has no limits.
	Quotas map[string]Quota
}

// Launch is one machine to make.
type Launch struct {
	Pool   types.NamespacedName
	Flavor string
	// Pods are the UIDs of the pods that it is made for.
	Pods []types.UID
}

// Reason is why no machine is made for a pod. A greater one is nearer to a machine.
type Reason int

// The reasons.
const (
	// NoMatch: the pod does not want, or may not use, the nodes of any pool.
	NoMatch Reason = iota + 1
	// TooLarge: no flavor has as much as the pod asks for.
	TooLarge
	// Unavailable: it cannot be told now whether a machine could be made.
	Unavailable
	// BackedOff: the flavors could not be had lately.
	BackedOff
	// AtMaximum: the pools may not have more nodes.
	AtMaximum
	// OutOfQuota: the project may not have more machines.
	OutOfQuota
)

// Refusal is a reason with a sentence.
type Refusal struct {
	Reason  Reason
	Message string
}

// Topic is what people have to be told once: the sentence, but for what a quota leaves. That changes while machines come
// and go, without any news in it.
func (r Refusal) Topic() string {
	if r.Reason == OutOfQuota {
		return "quota"
	}
	return r.Message
}

// Result is what to do, and what not, by pods' UIDs.
type Result struct {
	Launches []Launch
	// Placed has the pods that wait for a node which exists or is on its way: its name.
	Placed map[types.UID]string
	// Refused has the pods for which nothing can be done.
	Refused map[types.UID]Refusal
	// Limited has the pools that would have grown, but for a limit, a quota or a back-off.
	Limited map[types.NamespacedName]Refusal
}

// Decide finds the machines with the fewest vCPUs in all that hold the pods which have no
// room on the nodes; of two such choices, the one with fewer machines. It tries, for each
// group, to pack the pods into that group's machines first, by first-fit decreasing: that
// is no optimum, but never more than one choice of a single flavor would be.
func Decide(in Input) Result {
	result := Result{Placed: map[types.UID]string{}, Refused: map[types.UID]Refusal{}, Limited: map[types.NamespacedName]Refusal{}}
	pods := slices.Clone(in.Pods)
	slices.SortStableFunc(pods, byDemand)
	match := newMatcher(&in)
	nodes := slices.Clone(in.Nodes)
	waiting := placeOnNodes(pods, nodes, match, &result)

	state := newPacking(&in, match)
	for _, namespace := range namespaces(waiting) {
		var together, alone []Pod
		for _, pod := range waiting {
			switch {
			case pod.Namespace != namespace:
			case pod.Alone:
				alone = append(alone, pod)
			default:
				together = append(together, pod)
			}
		}
		state = best(state, together)
		for _, pod := range alone {
			placeAlone(state, pod, nodes, &result)
		}
	}
	state.report(&result)
	return result
}

// byDemand puts the greatest first, so that small pods fill what is left, and is total, so
// that a decision does not depend on the order in a cache.
func byDemand(a, b Pod) int {
	return cmp.Or(
		cmp.Compare(b.Requests.MilliCPU, a.Requests.MilliCPU),
		cmp.Compare(b.Requests.Memory, a.Requests.Memory),
		cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.UID, b.UID),
	)
}

func namespaces(pods []Pod) []string {
	var all []string
	for i := range pods {
		all = append(all, pods[i].Namespace)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// holds tells that a pod is about to get the node. If others have taken the room that was
// meant for it, it is not, unless the room was never what counted.
func holds(node Node, pod Pod) bool {
	return pod.Held != "" && node.Name == pod.Held && (pod.Alone || pod.Requests.Fits(node.Free))
}

// placeOnNodes gives pods the room that nodes have, and returns the others.
func placeOnNodes(pods []Pod, nodes []Node, match *matcher, result *Result) []Pod {
	var waiting []Pod
	for _, pod := range pods {
		at := nodeFor(pod, nodes, match)
		if at < 0 {
			waiting = append(waiting, pod)
			continue
		}
		nodes[at].Free = nodes[at].Free.Sub(pod.Requests)
		result.Placed[pod.UID] = nodes[at].Name
	}
	return waiting
}

// nodeFor finds the node that a pod is about to get, or else the first that has room for it;
// it is less than 0 if there is none.
func nodeFor(pod Pod, nodes []Node, match *matcher) int {
	if held := slices.IndexFunc(nodes, func(n Node) bool { return holds(n, pod) }); held >= 0 {
		return held
	}
	for i := range nodes {
		if nodes[i].hasRoom(pod) && match.node(pod, i) {
			return i
		}
	}
	return -1
}

// hasRoom tells whether a pod can count on a node's room. That of a ready node is the
// scheduler's to give, which knows more of some pods than this package.
func (n *Node) hasRoom(pod Pod) bool {
	if n.Ready && (pod.Distrust || pod.Alone) {
		return false
	}
	return pod.Requests.Fits(n.Free)
}

// placeAlone makes a machine for a pod of which it is not known where it can run, unless
// one that might do is on its way already.
func placeAlone(state *packing, pod Pod, nodes []Node, result *Result) {
	for i := range nodes {
		if !nodes[i].Ready && pod.Requests.Fits(nodes[i].Allocatable) && state.match.node(pod, i) {
			result.Placed[pod.UID] = nodes[i].Name
			return
		}
	}
	for i := range state.machines {
		group := state.machines[i].group
		if pod.Requests.Fits(state.in.Groups[group].Allocatable) && state.match.group(pod, group) {
			state.machines[i].waiters = append(state.machines[i].waiters, pod.UID)
			return
		}
	}
	state.place(pod, -1)
}

// matcher remembers which constraints allow which nodes and groups: most pods have the
// same as others.
type matcher struct {
	in            *Input
	nodes, groups map[string][]int8
}

func newMatcher(in *Input) *matcher {
	return &matcher{in: in, nodes: map[string][]int8{}, groups: map[string][]int8{}}
}

func (m *matcher) node(pod Pod, i int) bool {
	return remember(m.nodes, pod.constraints.key, len(m.in.Nodes), i, func() bool {
		return pod.constraints.Allow(m.in.Nodes[i].Object)
	})
}

// group tells whether the pod may use the group and wants its nodes.
func (m *matcher) group(pod Pod, i int) bool {
	return m.in.Pools[m.in.Groups[i].Pool].Serves[pod.Namespace] &&
		remember(m.groups, pod.constraints.key, len(m.in.Groups), i, func() bool {
			return pod.constraints.Allow(m.in.Groups[i].Template)
		})
}

func remember(known map[string][]int8, key string, size, i int, decide func() bool) bool {
	answers, ok := known[key]
	if !ok {
		answers = make([]int8, size)
		known[key] = answers
	}
	if answers[i] == 0 {
		answers[i] = -1
		if decide() {
			answers[i] = 1
		}
	}
	return answers[i] == 1
}
