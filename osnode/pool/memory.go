// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/pool/plan"
)

// memory is what a process knows besides the API. Losing it costs a little time: idle
// nodes live longer, and a pod may be told something twice.
type memory struct {
	mu sync.Mutex
	// held are the pools that somebody changes just now.
	held map[types.NamespacedName]bool
	// idle is since when a node has had no pods, by the OpenStackNode's UID.
	idle map[types.UID]time.Time
	// pods is what is known of pods that wait.
	pods map[types.UID]*waiting
	// wanted are the pools that pods wait for, and limited those that could not grow, as of
	// the last decision.
	wanted  map[types.NamespacedName]bool
	limited map[types.NamespacedName]plan.Refusal
	// flavors are the last answers about flavors.
	flavors map[flavorKey]flavorAnswer
	// made are nodes that the cache may not have yet.
	made map[string]madeNode
}

// waiting is a pod that waits.
type waiting struct {
	// node is where it should run.
	node string
	// waits says that the node was made for another pod, and is only hoped to do for this one.
	waits bool
	// ready is since when that node has been ready.
	ready time.Time
	// strikes counts the nodes that were ready and did not get the pod.
	strikes int
	// until is before when no other machine is made for it.
	until time.Time
	// told is the last event's reason and when it was.
	told   string
	toldAt time.Time
}

type flavorKey struct {
	account cloud.Account
	name    string
}

type flavorAnswer struct {
	flavor cloud.Flavor
	err    error
	at     time.Time
}

func newMemory() *memory {
	return &memory{
		held: map[types.NamespacedName]bool{}, idle: map[types.UID]time.Time{}, pods: map[types.UID]*waiting{},
		wanted: map[types.NamespacedName]bool{}, limited: map[types.NamespacedName]plan.Refusal{},
		flavors: map[flavorKey]flavorAnswer{}, made: map[string]madeNode{},
	}
}

// hold takes a pool for its caller alone; release gives it back. It does not wait.
func (m *memory) hold(pool types.NamespacedName) (release func(), held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held[pool] {
		return nil, false
	}
	m.held[pool] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.held, pool)
	}, true
}

// idleSince remembers since when a node has been empty; a node with pods is forgotten.
func (m *memory) idleSince(uid types.UID, empty bool, now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !empty {
		delete(m.idle, uid)
		return time.Time{}
	}
	if m.idle[uid].IsZero() {
		m.idle[uid] = now
	}
	return m.idle[uid]
}

func (m *memory) forgetNode(osn *osnodev1.OpenStackNode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.idle, osn.UID)
	delete(m.made, nodeKey(osn))
}

// decided takes over what a decision says of pools, and returns those of which that is new.
func (m *memory) decided(wanted map[types.NamespacedName]bool, limited map[types.NamespacedName]plan.Refusal) []types.NamespacedName {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := map[types.NamespacedName]bool{}
	for _, pools := range []map[types.NamespacedName]bool{wanted, m.wanted} {
		for pool := range pools {
			changed[pool] = wanted[pool] != m.wanted[pool]
		}
	}
	for _, pools := range []map[types.NamespacedName]plan.Refusal{limited, m.limited} {
		for pool := range pools {
			changed[pool] = changed[pool] || limited[pool] != m.limited[pool]
		}
	}
	m.wanted, m.limited = wanted, limited
	maps.DeleteFunc(changed, func(_ types.NamespacedName, is bool) bool { return !is })
	return slices.Collect(maps.Keys(changed))
}

// about says whether pods wait for a pool, and what keeps it from growing.
func (m *memory) about(pool types.NamespacedName) (wanted bool, limited plan.Refusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wanted[pool], m.limited[pool]
}

// hopes is how much shorter than others those pods wait that may not be able to run on the
// node: the next machine for them should come soon.
const hopes = 6

// cacheDelay is for how long a node counts that was made, although the cache has none.
const cacheDelay = time.Minute

// madeNode is a node with when it was made.
type madeNode struct {
	osn *osnodev1.OpenStackNode
	at  time.Time
}

// remember notes a node that the cache will have soon.
func (m *memory) remember(osn *osnodev1.OpenStackNode, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made[nodeKey(osn)] = madeNode{osn: osn.DeepCopy(), at: now}
}

// notYetCached are the nodes that were made and that the cache does not have.
func (m *memory) notYetCached(cached []*osnodev1.OpenStackNode, now time.Time) []*osnodev1.OpenStackNode {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, osn := range cached {
		delete(m.made, nodeKey(osn))
	}
	var missing []*osnodev1.OpenStackNode
	for key, made := range m.made {
		if now.Sub(made.at) > cacheDelay {
			delete(m.made, key)
			continue
		}
		missing = append(missing, made.osn.DeepCopy())
	}
	return missing
}

// standing is how a pod that waits stands with the node that it was promised.
type standing struct {
	// held is that node, which is ready and has yet to get the pod.
	held string
	// distrust says that the node has not got the pod in time.
	distrust bool
	// heldBack says that no machine is made for the pod now: some were, in vain.
	heldBack bool
}

// standing finds it, given which nodes there are and whether they are ready.
func (m *memory) standing(pod types.UID, ready map[string]bool, settle time.Duration, now time.Time) standing {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.waiting(pod)
	isReady, exists := ready[w.node]
	switch {
	case !exists:
		w.node, w.ready = "", time.Time{}
		return standing{distrust: w.strikes > 0, heldBack: now.Before(w.until)}
	case !isReady:
		return standing{distrust: w.strikes > 0}
	case w.ready.IsZero():
		w.ready = now
	}
	if w.waits {
		settle /= hopes
	}
	if now.Sub(w.ready) < settle {
		return standing{held: w.node}
	}
	if w.waits { // in vain, but no machine was made for it
		w.node, w.waits, w.ready = "", false, time.Time{}
		return standing{heldBack: now.Before(w.until)}
	}
	return standing{distrust: true, heldBack: now.Before(w.until)}
}

func (m *memory) waiting(pod types.UID) *waiting {
	w := m.pods[pod]
	if w == nil {
		w = &waiting{}
		m.pods[pod] = w
	}
	return w
}

// promise notes the node that a pod is to run on, or may run on.
func (m *memory) promise(pod types.UID, node string, waits bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.waiting(pod); w.node != node {
		w.node, w.waits, w.ready = node, waits, time.Time{}
	}
}

// strike notes that another node is made for a pod that one was made for in vain.
func (m *memory) strike(pod types.UID, first, most time.Duration, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.waiting(pod)
	wait := most
	if w.strikes < 10 {
		wait = min(most, first<<w.strikes)
	}
	w.strikes++
	w.until = now.Add(wait)
}

// tell says whether a pod has to be told something: not if it was lately.
func (m *memory) tell(pod types.UID, what string, repeat time.Duration, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.waiting(pod)
	if w.told == what && now.Sub(w.toldAt) < repeat {
		return false
	}
	w.told, w.toldAt = what, now
	return true
}

// keep forgets all pods that wait no more.
func (m *memory) keep(pods map[types.UID]*corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid := range m.pods {
		if _, waits := pods[uid]; !waits {
			delete(m.pods, uid)
		}
	}
}
