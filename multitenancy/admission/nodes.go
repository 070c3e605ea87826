// SPDX-License-Identifier: Apache-2.0

package admission

import "sync"

// Nodes knows which pools have nodes that take pods.
type Nodes struct {
	mu    sync.RWMutex
	nodes map[string]string // name to the pool of those that are ready
	pools map[string]int
}

// NewNodes knows of none.
func NewNodes() *Nodes {
	return &Nodes{nodes: map[string]string{}, pools: map[string]int{}}
}

// Put records a node; pool is empty when it takes no pods of tenants.
func (n *Nodes) Put(name, pool string, ready bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(name)
	if pool == "" || !ready {
		return
	}
	n.nodes[name] = pool
	n.pools[pool]++
}

// Delete forgets a node.
func (n *Nodes) Delete(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(name)
}

func (n *Nodes) forget(name string) {
	pool, known := n.nodes[name]
	if !known {
		return
	}
	delete(n.nodes, name)
	if n.pools[pool]--; n.pools[pool] == 0 {
		delete(n.pools, pool)
	}
}

// Ready tells that one of the pools has a node that is ready.
func (n *Nodes) Ready(pools []string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, pool := range pools {
		if n.pools[pool] > 0 {
			return true
		}
	}
	return false
}
