// SPDX-License-Identifier: Apache-2.0

package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/cloudveneto/caas/internal/lab/proc"
)

// maxConsole is how much of a console's end Nova gets.
const maxConsole = 100 << 10

// Machines is the driver that runs every server as a machine. Its state is on disk: a
// new one with the same configuration has the same machines.
type Machines struct {
	config Config

	mu    sync.Mutex
	locks map[string]*lock // by UUID, of servers that something is being done with
}

type lock struct {
	sync.Mutex
	users int
}

// NewMachines checks the configuration. It makes no machine.
func NewMachines(config Config) (*Machines, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	if info, err := os.Stat(config.Root); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("hypervisor: root %q is no directory", config.Root)
	}
	return &Machines{config: config, locks: map[string]*lock{}}, nil
}

// exclusively lets one request at a time work on a server.
func (m *Machines) exclusively(id string, do func(machine) error) error {
	if err := checkUUID(id); err != nil {
		return err
	}
	m.mu.Lock()
	held := m.locks[id]
	if held == nil {
		held = &lock{}
		m.locks[id] = held
	}
	held.users++
	m.mu.Unlock()
	held.Lock()
	defer func() {
		held.Unlock()
		m.mu.Lock()
		defer m.mu.Unlock()
		if held.users--; held.users == 0 {
			delete(m.locks, id)
		}
	}()
	return do(m.config.machine(id))
}

// Spawn implements Driver: it plugs a new machine in and switches it on. A machine that
// exists already is left as it is; one that cannot be made is removed again.
func (m *Machines) Spawn(ctx context.Context, server Server) error {
	return m.exclusively(server.UUID, func(machine machine) error {
		if running, err := machine.running(); err != nil || running {
			return err
		}
		if err := m.spawn(ctx, machine, server); err != nil {
			return errors.Join(err, machine.remove(context.WithoutCancel(ctx), &m.config))
		}
		return nil
	})
}

// Destroy implements Driver.
func (m *Machines) Destroy(ctx context.Context, id string) error {
	return m.exclusively(id, func(machine machine) error { return machine.remove(ctx, &m.config) })
}

// PowerOn implements Driver.
func (m *Machines) PowerOn(ctx context.Context, id string) error {
	return m.existing(id, func(machine machine, server Server) error {
		if running, err := machine.running(); err != nil || running {
			return err
		}
		return m.boot(ctx, machine, server)
	})
}

// PowerOff implements Driver: the machine ends at once, as pulling the plug does.
func (m *Machines) PowerOff(ctx context.Context, id string) error {
	return m.existing(id, func(machine machine, _ Server) error { return machine.kill(ctx) })
}

// Reboot implements Driver: the reset button.
func (m *Machines) Reboot(ctx context.Context, id string) error {
	return m.existing(id, func(machine machine, server Server) error {
		if err := machine.kill(ctx); err != nil {
			return err
		}
		return m.boot(ctx, machine, server)
	})
}

// existing calls do with a server that was spawned.
func (m *Machines) existing(id string, do func(machine, Server) error) error {
	return m.exclusively(id, func(machine machine) error {
		server, err := machine.server()
		if err != nil {
			return err
		}
		return do(machine, server)
	})
}

// Console implements Driver.
func (m *Machines) Console(_ context.Context, id string) ([]byte, error) {
	if err := checkUUID(id); err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Clean(m.config.machine(id).console())) //nolint:gosec // the name is a UUID
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("server %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open console: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read console: %w", err)
	}
	text, err := io.ReadAll(io.NewSectionReader(file, max(0, info.Size()-maxConsole), maxConsole))
	if err != nil {
		return nil, fmt.Errorf("read console: %w", err)
	}
	return text, nil
}

// Status is a machine as its directory shows it.
type Status struct {
	Server  Server
	Running bool
	// Dir has the console's log, the logs of services and the machine's files.
	Dir string
}

// List returns all machines.
func (m *Machines) List() ([]Status, error) {
	entries, err := os.ReadDir(m.config.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	var all []Status
	for _, entry := range entries {
		if checkUUID(entry.Name()) != nil {
			continue
		}
		machine := m.config.machine(entry.Name())
		running, err := machine.running()
		if err != nil {
			return nil, err
		}
		server, err := machine.server()
		if errors.Is(err, ErrNotFound) {
			server = Server{UUID: machine.id} // left half made or half removed
		} else if err != nil {
			return nil, err
		}
		all = append(all, Status{Server: server, Running: running, Dir: machine.dir})
	}
	return all, nil
}

// StopAll removes all machines, also those of which only parts are left.
func (m *Machines) StopAll(ctx context.Context) error {
	all, err := m.List()
	if err != nil {
		return err
	}
	problems := make([]error, len(all))
	var removing sync.WaitGroup
	for i, status := range all {
		removing.Go(func() { problems[i] = m.Destroy(ctx, status.Server.UUID) })
	}
	removing.Wait()
	return errors.Join(problems...)
}

func (m machine) running() (bool, error) {
	process, err := proc.Load(m.dir, recordName)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for machine %s: %w", m.id, err)
	}
	return process.Alive(), nil
}

// server is what the machine was spawned with.
func (m machine) server() (Server, error) {
	var server Server
	data, err := os.ReadFile(m.path(serverFile))
	if errors.Is(err, fs.ErrNotExist) {
		return server, fmt.Errorf("server %s: %w", m.id, ErrNotFound)
	}
	if err != nil {
		return server, fmt.Errorf("read server %s: %w", m.id, err)
	}
	if err := json.Unmarshal(data, &server); err != nil {
		return server, fmt.Errorf("decode server %s: %w", m.id, err)
	}
	return server, nil
}
