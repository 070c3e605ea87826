// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/unit"
	"github.com/cloudveneto/caas/internal/lab/node"
)

var errUnsupported = errors.New("machines run services and targets only")

// manager runs the machine's services.
type manager struct {
	children *node.Children
	console  *console
	// halt switches the machine off.
	halt func()
	// supervising are the goroutines of running services.
	supervising sync.WaitGroup

	mu       sync.Mutex // guards services
	services map[string]*service
}

func newManager(children *node.Children, console *console, halt func()) *manager {
	return &manager{children: children, console: console, halt: halt, services: map[string]*service{}}
}

// service returns what is known of a service, also of one that never ran.
func (m *manager) service(name string) *service {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.services[name]
	if s == nil {
		s = &service{name: name, state: inactive}
		m.services[name] = s
	}
	return s
}

// known are the names of all services that something was done with.
func (m *manager) known() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.services))
}

// start starts a unit and what it requires. It returns when the unit is active; one whose
// conditions are not met is left alone without an error, as systemd does.
func (m *manager) start(ctx context.Context, name string) error {
	return m.startWith(ctx, name, map[string]bool{})
}

// startWith keeps in seen what is being started, so that circles end.
func (m *manager) startWith(ctx context.Context, name string, seen map[string]bool) error {
	loaded, err := unit.Load("/", name)
	if err != nil {
		return err
	}
	if seen[loaded.Name] {
		return nil
	}
	seen[loaded.Name] = true
	if err := m.startNeeded(ctx, loaded, seen); err != nil {
		return err
	}
	switch unit.Kind(loaded.Name) {
	case "service":
		return m.startService(ctx, loaded)
	case "target":
		return nil
	default:
		return fmt.Errorf("start %s: %w", loaded.Name, errUnsupported)
	}
}

// startNeeded starts what a unit requires, and, as far as possible, what it wants.
func (m *manager) startNeeded(ctx context.Context, loaded *unit.Unit, seen map[string]bool) error {
	for _, name := range append(loaded.Words("Unit", "Requires"), loaded.Words("Unit", "BindsTo")...) {
		if unit.Kind(name) != "service" {
			continue // sockets and mounts are there or not needed
		}
		if err := m.startWith(ctx, name, seen); err != nil {
			return fmt.Errorf("%s requires %s: %w", loaded.Name, name, err)
		}
	}
	wanted := loaded.Words("Unit", "Wants")
	if more, err := unit.Wanted("/", loaded.Name); err == nil && unit.Kind(loaded.Name) == "service" {
		wanted = append(wanted, more...)
	}
	wanted = slices.DeleteFunc(wanted, func(name string) bool { return !startsAtBoot(name) })
	for _, name := range wanted {
		if err := m.startWith(ctx, name, seen); err != nil && !errors.Is(err, unit.ErrNotFound) {
			m.console.say("%s wants %s: %v", loaded.Name, name, err)
		}
	}
	return nil
}

func (m *manager) startService(ctx context.Context, loaded *unit.Unit) error {
	if unmet := unmetCondition(loaded); unmet != "" {
		m.console.say("%s is not started: %s", loaded.Name, unmet)
		return nil
	}
	s := m.service(loaded.Name)
	s.operation.Lock()
	defer s.operation.Unlock()
	if s.current() == active {
		return nil
	}
	s.end() // of a failed one that waits to be tried again
	if err := m.launch(ctx, s, loaded); err != nil {
		if s.current() != active { // it may be tried again, and have come up
			s.set(failed, 0)
		}
		m.console.say("failed to start %s: %v", loaded.Name, err)
		return fmt.Errorf("start %s: %w", loaded.Name, err)
	}
	m.console.say("started %s", loaded.Name)
	return nil
}

// stop ends a service and returns when it has.
func (m *manager) stop(name string) error {
	name = unit.FullName(name)
	loaded, err := unit.Load("/", name)
	if err == nil {
		name = loaded.Name
	} else if s := m.service(name); s.current() != active {
		return err
	}
	s := m.service(name)
	s.operation.Lock()
	defer s.operation.Unlock()
	was := s.current()
	s.end()
	if was == active {
		m.console.say("stopped %s", name)
	}
	return nil
}

// reload tells a service to read its configuration again.
func (m *manager) reload(ctx context.Context, name string) error {
	loaded, err := unit.Load("/", name)
	if err != nil {
		return err
	}
	s := m.service(loaded.Name)
	if s.current() != active {
		return fmt.Errorf("%s is not active", loaded.Name)
	}
	job, err := newJob(loaded, s.pid())
	if err != nil {
		return err
	}
	commands, err := loaded.Commands("ExecReload", job.variables)
	if err != nil {
		return err
	}
	if len(commands) == 0 {
		return fmt.Errorf("%s has no ExecReload", loaded.Name)
	}
	return m.runAll(ctx, job, commands)
}

// unmetCondition says which of the unit's conditions keeps it from being started; empty
// when none does. Conditions on other things than files hold on every machine.
func unmetCondition(loaded *unit.Unit) string {
	checks := map[string]func(path string) bool{
		"ConditionPathExists":        exists,
		"ConditionPathExistsGlob":    func(pattern string) bool { found, err := filepath.Glob(pattern); return err == nil && len(found) > 0 },
		"ConditionPathIsDirectory":   func(path string) bool { info, err := os.Stat(path); return err == nil && info.IsDir() },
		"ConditionDirectoryNotEmpty": func(path string) bool { entries, err := os.ReadDir(path); return err == nil && len(entries) > 0 },
		"ConditionCapability":        isCapable,
		"ConditionFileNotEmpty":      func(path string) bool { info, err := os.Stat(path); return err == nil && info.Size() > 0 },
	}
	// Of the conditions with a bar, one is enough.
	alternatives, met := "", false
	for _, key := range slices.Sorted(maps.Keys(checks)) {
		for _, value := range loaded.All("Unit", key) {
			rest, alternative := strings.CutPrefix(value, "|")
			path, negated := strings.CutPrefix(rest, "!")
			holds := checks[key](path) != negated
			switch {
			case alternative:
				alternatives = fmt.Sprintf("%s=%s is not met", key, value)
				met = met || holds
			case !holds:
				return fmt.Sprintf("%s=%s is not met", key, value)
			}
		}
	}
	if met {
		return ""
	}
	return alternatives
}

// isCapable tells whether the machine has those of the withheld capabilities that a unit
// asks for.
func isCapable(name string) bool { return name != "CAP_SYS_TIME" && name != "CAP_SYS_MODULE" }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
