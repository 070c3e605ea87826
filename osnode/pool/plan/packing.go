// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// machine is one to be made.
type machine struct {
	group int
	free  Resources
	pods  []Pod
	// waiters are pods that may run on it, of which that is not known.
	waiters []types.UID
}

// packing is a set of machines to be made, and what they leave of the limits.
type packing struct {
	in       *Input
	match    *matcher
	machines []machine
	rooms    map[types.NamespacedName]int
	quotas   map[string]Quota
	refused  map[types.UID]Refusal
	limited  map[types.NamespacedName]Refusal
	placed   int
}

func newPacking(in *Input, match *matcher) *packing {
	p := &packing{
		in: in, match: match, rooms: map[types.NamespacedName]int{}, quotas: maps.Clone(in.Quotas),
		refused: map[types.UID]Refusal{}, limited: map[types.NamespacedName]Refusal{},
	}
	for name, pool := range in.Pools {
		p.rooms[name] = pool.Room
	}
	return p
}

func (p *packing) clone() *packing {
	c := *p
	c.machines = slices.Clone(p.machines)
	for i := range c.machines {
		c.machines[i].pods = slices.Clip(c.machines[i].pods)
		c.machines[i].waiters = slices.Clip(c.machines[i].waiters)
	}
	c.rooms, c.quotas = maps.Clone(p.rooms), maps.Clone(p.quotas)
	c.refused, c.limited = maps.Clone(p.refused), maps.Clone(p.limited)
	return &c
}

// best packs pods in several ways, and returns the best result.
func best(start *packing, pods []Pod) *packing {
	if len(pods) == 0 {
		return start
	}
	var winner *packing
	for preferred := -1; preferred < len(start.in.Groups); preferred++ {
		if preferred >= 0 && !slices.ContainsFunc(pods, func(pod Pod) bool { return start.match.group(pod, preferred) }) {
			continue
		}
		try := start.clone()
		for _, pod := range pods {
			try.place(pod, preferred)
		}
		try.shrink(len(start.machines))
		if winner == nil || try.compare(winner) < 0 {
			winner = try
		}
	}
	return winner
}

// compare is negative if p is better: more pods have a place, fewer GPUs are used for pods
// that want none, fewer vCPUs, fewer machines, less memory.
func (p *packing) compare(other *packing) int {
	a, b := p.cost(), other.cost()
	return cmp.Or(
		cmp.Compare(other.placed, p.placed), cmp.Compare(a.idleGPUs, b.idleGPUs),
		cmp.Compare(a.vcpus, b.vcpus), cmp.Compare(len(p.machines), len(other.machines)), cmp.Compare(a.memory, b.memory),
	)
}

type cost struct{ idleGPUs, vcpus, memory int }

func (p *packing) cost() cost {
	var c cost
	for i := range p.machines {
		group := &p.in.Groups[p.machines[i].group]
		c.vcpus += group.VCPUs
		c.memory += group.MemoryMiB
		if group.GPUs > 0 && !slices.ContainsFunc(p.machines[i].pods, wantsDevice) {
			c.idleGPUs += group.GPUs
		}
	}
	return c
}

// wantsDevice tells whether a pod asks for an extended resource: their names have a domain.
func wantsDevice(pod Pod) bool {
	for name := range pod.Requests.Other {
		if strings.Contains(string(name), "/") {
			return true
		}
	}
	return false
}

// place gives a pod room on a machine, on a new one if need be, of the preferred group if
// that will do.
func (p *packing) place(pod Pod, preferred int) {
	for i := range p.machines {
		m := &p.machines[i]
		if pod.Requests.Fits(m.free) && p.match.group(pod, m.group) {
			p.put(i, pod)
			return
		}
	}
	group, refusal := p.choose(pod, preferred)
	if group < 0 {
		p.refused[pod.UID] = refusal
		return
	}
	p.take(group, 1)
	p.machines = append(p.machines, machine{group: group, free: p.in.Groups[group].Allocatable})
	p.put(len(p.machines)-1, pod)
}

func (p *packing) put(i int, pod Pod) {
	m := &p.machines[i]
	m.free = m.free.Sub(pod.Requests)
	m.pods = append(m.pods, pod)
	p.placed++
}

// choose finds the group for a pod's own machine: the preferred one, or the cheapest.
func (p *packing) choose(pod Pod, preferred int) (group int, _ Refusal) {
	group = -1
	met := obstacles{
		limited: map[types.NamespacedName]Refusal{},
		nearest: Refusal{Reason: NoMatch, Message: "the pod's node selector, affinity or tolerations do not fit the nodes of any pool that it may use"},
	}
	for i := range p.in.Groups {
		if !p.match.group(pod, i) {
			continue
		}
		if no := p.obstacle(pod, i); no.Reason != 0 {
			met.add(p.in.Groups[i].Pool, no)
			continue
		}
		if i == preferred {
			return i, Refusal{}
		}
		if group < 0 || p.cheaper(pod, i, group) {
			group = i
		}
	}
	if group < 0 {
		maps.Copy(p.limited, met.limited)
	}
	return group, met.nearest
}

// obstacles are why groups cannot have a machine for a pod.
type obstacles struct {
	// limited has the pools that could, but for a limit, a quota or a back-off.
	limited map[types.NamespacedName]Refusal
	// nearest is the one that is nearest to a machine.
	nearest Refusal
}

func (o *obstacles) add(pool types.NamespacedName, no Refusal) {
	if no.Reason > TooLarge {
		o.limited[pool] = no
	}
	if no.Reason > o.nearest.Reason {
		o.nearest = no
	}
}

func (p *packing) cheaper(pod Pod, i, than int) bool {
	a, b := &p.in.Groups[i], &p.in.Groups[than]
	if !wantsDevice(pod) && (a.GPUs == 0) != (b.GPUs == 0) {
		return a.GPUs == 0
	}
	return cmp.Or(cmp.Compare(a.VCPUs, b.VCPUs), cmp.Compare(a.MemoryMiB, b.MemoryMiB)) < 0
}

// obstacle is why no machine of a group can be made for a pod; its reason is 0 if one can.
func (p *packing) obstacle(pod Pod, i int) Refusal {
	group := &p.in.Groups[i]
	switch {
	case group.Blocked.Reason != 0:
		return group.Blocked
	case !pod.Requests.Fits(group.Allocatable):
		return Refusal{TooLarge, fmt.Sprintf("the pod asks for more than a node of flavor %q of pool %q has", group.Flavor, group.Pool.Name)}
	case p.rooms[group.Pool] < 1:
		return Refusal{AtMaximum, fmt.Sprintf("pool %q may have at most %d nodes", group.Pool.Name, p.in.Pools[group.Pool].Max)}
	default:
		return p.beyondQuota(group)
	}
}

func (p *packing) beyondQuota(group *Group) Refusal {
	quota, limited := p.quotas[group.Account]
	if !limited {
		return Refusal{}
	}
	for _, limit := range []struct {
		what       string
		left, need int
	}{
		{"cores", quota.Cores, group.VCPUs}, {"instances", quota.Instances, 1}, {"MiB of memory", quota.MemoryMiB, group.MemoryMiB},
	} {
		if limit.left >= 0 && limit.left < limit.need {
			return Refusal{OutOfQuota, fmt.Sprintf("a node of flavor %q of pool %q needs %d %s, of which the project's quota leaves %d",
				group.Flavor, group.Pool.Name, limit.need, limit.what, limit.left)}
		}
	}
	return Refusal{}
}

// take takes a group's machines from the limits, or gives them back.
func (p *packing) take(i, count int) {
	group := &p.in.Groups[i]
	p.rooms[group.Pool] -= count
	quota, limited := p.quotas[group.Account]
	if !limited {
		return
	}
	for _, limit := range []struct {
		left *int
		need int
	}{
		{&quota.Cores, group.VCPUs}, {&quota.Instances, 1}, {&quota.MemoryMiB, group.MemoryMiB},
	} {
		if *limit.left >= 0 {
			*limit.left -= count * limit.need
		}
	}
	p.quotas[group.Account] = quota
}

// shrink replaces the machines from the given one on by cheaper ones that hold the same.
func (p *packing) shrink(from int) {
	for i := from; i < len(p.machines); i++ {
		m := &p.machines[i]
		used := p.in.Groups[m.group].Allocatable.Sub(m.free)
		p.take(m.group, -1)
		chosen := m.group
		for candidate := range p.in.Groups {
			if p.cheaper(m.pods[0], candidate, chosen) && p.holds(candidate, m.pods, used) {
				chosen = candidate
			}
		}
		p.take(chosen, 1)
		m.group, m.free = chosen, p.in.Groups[chosen].Allocatable.Sub(used)
	}
}

func (p *packing) holds(group int, pods []Pod, used Resources) bool {
	if !used.Fits(p.in.Groups[group].Allocatable) || p.obstacle(Pod{}, group).Reason != 0 {
		return false
	}
	return !slices.ContainsFunc(pods, func(pod Pod) bool { return !p.match.group(pod, group) })
}

func (p *packing) report(result *Result) {
	for i := range p.machines {
		group := &p.in.Groups[p.machines[i].group]
		launch := Launch{Pool: group.Pool, Flavor: group.Flavor}
		for _, pod := range p.machines[i].pods {
			launch.Pods = append(launch.Pods, pod.UID)
		}
		launch.Pods = append(launch.Pods, p.machines[i].waiters...)
		result.Launches = append(result.Launches, launch)
	}
	maps.Copy(result.Refused, p.refused)
	maps.Copy(result.Limited, p.limited)
}
