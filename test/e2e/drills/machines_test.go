// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cloudveneto/caas/internal/lab/hypervisor"
	"github.com/cloudveneto/caas/internal/lab/hypervisor/joiner"
)

// machines are what servers become: joiners, some of which are held up or refused, by the server's name.
type machines struct {
	*joiner.Joiner

	mu      sync.Mutex
	options map[string]joiner.Options
	spawns  map[string]chan struct{}
	ends    map[string]chan struct{}
	refusal map[string][]string
	// asked is how often Nova has come with a machine of a name, held up or not.
	asked map[string]int
}

func newMachines() *machines {
	m := &machines{
		options: map[string]joiner.Options{}, spawns: map[string]chan struct{}{}, ends: map[string]chan struct{}{},
		refusal: map[string][]string{}, asked: map[string]int{},
	}
	m.Joiner = joiner.New(joiner.Config{
		HeartBeat: 5 * time.Second, Retry: 200 * time.Millisecond,
		Options: func(server hypervisor.Server) joiner.Options {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.options[server.Name]
		},
	})
	return m
}

// close lets all go that are held up, and ends all machines.
func (m *machines) close() {
	m.mu.Lock()
	for name := range m.spawns {
		release(m.spawns, name)
	}
	for name := range m.ends {
		release(m.ends, name)
	}
	m.mu.Unlock()
	m.Close()
}

func release(gates map[string]chan struct{}, name string) {
	if gate := gates[name]; gate != nil {
		close(gate)
		delete(gates, name)
	}
}

// behave has the next machines of a name do otherwise than kubelets would.
func (m *machines) behave(name string, options joiner.Options) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.options[name] = options
}

// refuse has the next machine of a name end in error with a fault.
func (m *machines) refuse(name, fault string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusal[name] = append(m.refusal[name], fault)
}

// holdSpawn keeps machines of a name in BUILD, holdEnd keeps them alive although they are being deleted, until let go.
func (m *machines) holdSpawn(name string) (letGo func()) { return m.hold(m.spawns, name) }
func (m *machines) holdEnd(name string) (letGo func())   { return m.hold(m.ends, name) }

// spawning tells whether Nova has come so far as to have a machine of a name made.
func (m *machines) spawning(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[name] > 0
}

func (m *machines) hold(gates map[string]chan struct{}, name string) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	gates[name] = make(chan struct{})
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		release(gates, name)
	}
}

// wait returns when a gate is open.
func (m *machines) wait(ctx context.Context, gates map[string]chan struct{}, name string) error {
	m.mu.Lock()
	gate := gates[name]
	m.mu.Unlock()
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Spawn implements hypervisor.Driver.
func (m *machines) Spawn(ctx context.Context, server hypervisor.Server) error {
	m.mu.Lock()
	m.asked[server.Name]++
	m.mu.Unlock()
	if err := m.wait(ctx, m.spawns, server.Name); err != nil {
		return err
	}
	m.mu.Lock()
	faults := m.refusal[server.Name]
	if len(faults) > 0 {
		m.refusal[server.Name] = faults[1:]
	}
	m.mu.Unlock()
	if len(faults) > 0 {
		return errors.New(faults[0])
	}
	return m.Joiner.Spawn(ctx, server)
}

// Destroy implements hypervisor.Driver.
func (m *machines) Destroy(ctx context.Context, uuid string) error {
	if status, known := m.Status(uuid); known {
		if err := m.wait(ctx, m.ends, status.Server.Name); err != nil {
			return err
		}
	}
	return m.Joiner.Destroy(ctx, uuid)
}

// named is the machine of a name; false when there is none.
func (m *machines) named(name string) (joiner.Status, bool) {
	for _, id := range m.Servers() {
		if status, known := m.Status(id); known && status.Server.Name == name {
			return status, true
		}
	}
	return joiner.Status{}, false
}
