// SPDX-License-Identifier: Apache-2.0

package hypervisor

import (
	"context"
	"fmt"
	"sync"
)

// None is a driver whose servers exist and do nothing, for tests of many servers.
type None struct {
	mu      sync.Mutex
	servers map[string]noneServer
}

type noneServer struct {
	server  Server
	running bool
}

// NewNone returns a driver without servers.
func NewNone() *None { return &None{servers: map[string]noneServer{}} }

// Servers are those that there are, and whether they are switched on.
func (n *None) Servers() map[string]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make(map[string]bool, len(n.servers))
	for id, server := range n.servers {
		all[id] = server.running
	}
	return all
}

// Spawn implements Driver.
func (n *None) Spawn(_ context.Context, server Server) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.servers[server.UUID] = noneServer{server: server, running: true}
	return nil
}

// Destroy implements Driver.
func (n *None) Destroy(_ context.Context, uuid string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.servers, uuid)
	return nil
}

// PowerOn implements Driver.
func (n *None) PowerOn(_ context.Context, uuid string) error { return n.power(uuid, true) }

// PowerOff implements Driver.
func (n *None) PowerOff(_ context.Context, uuid string) error { return n.power(uuid, false) }

// Reboot implements Driver.
func (n *None) Reboot(_ context.Context, uuid string) error { return n.power(uuid, true) }

func (n *None) power(uuid string, on bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	server, ok := n.servers[uuid]
	if !ok {
		return fmt.Errorf("server %s: %w", uuid, ErrNotFound)
	}
	server.running = on
	n.servers[uuid] = server
	return nil
}

// Console implements Driver.
func (n *None) Console(_ context.Context, uuid string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	server, ok := n.servers[uuid]
	if !ok {
		return nil, fmt.Errorf("server %s: %w", uuid, ErrNotFound)
	}
	return fmt.Appendf(nil, "%s does not run anything\n", server.server.Name), nil
}
