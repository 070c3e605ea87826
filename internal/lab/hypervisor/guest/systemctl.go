// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/unit"
)

// Exit codes of systemctl that programs rely on.
const (
	codeFailed       = 1
	codeInactive     = 3
	codeNoSuchUnit   = 4
	codeNotInstalled = 5
)

// haltDelay is for systemctl to have its answer before the machine is gone.
const haltDelay = 100 * time.Millisecond

// call is one call of systemctl.
type call struct {
	verb  string
	units []string
	// options that change what is done.
	now, quiet, noBlock, value bool
	properties                 []string

	out, problems strings.Builder
	code          int
}

// parseCall reads systemctl's arguments. Options that only change how things look are
// accepted and do nothing.
func parseCall(args []string) *call {
	c := &call{}
	takesValue := map[string]bool{"-p": true, "--property": true, "-t": true, "--type": true, "--state": true, "-n": true, "--lines": true, "-s": true, "--signal": true, "-o": true, "--output": true}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		name, value, inline := strings.Cut(arg, "=")
		if strings.HasPrefix(arg, "-") && takesValue[name] && !inline && i+1 < len(args) {
			i++
			value = args[i]
		}
		switch {
		case name == "--now":
			c.now = true
		case name == "--quiet" || name == "-q":
			c.quiet = true
		case name == "--no-block":
			c.noBlock = true
		case name == "--value":
			c.value = true
		case name == "-p" || name == "--property":
			c.properties = append(c.properties, strings.Split(value, ",")...)
		case strings.HasPrefix(arg, "-"):
		case c.verb == "":
			c.verb = arg
		default:
			c.units = append(c.units, arg)
		}
	}
	return c
}

func (c *call) printf(format string, args ...any) { fmt.Fprintf(&c.out, format, args...) }

// fail notes a problem and how systemctl ends; the others are still done.
func (c *call) fail(err error) {
	fmt.Fprintln(&c.problems, err)
	c.code = codeFailed
	if errors.Is(err, unit.ErrNotFound) {
		c.code = codeNotInstalled
	}
}

// systemctl does one call.
func (m *manager) systemctl(ctx context.Context, args []string) answer {
	c := parseCall(args)
	if do, ok := m.verbs()[c.verb]; ok {
		do(ctx, c)
	} else {
		c.fail(fmt.Errorf("unknown command verb %s", c.verb))
	}
	result := answer{Stdout: c.out.String(), Stderr: c.problems.String(), Code: c.code}
	if c.quiet {
		result.Stdout = ""
	}
	return result
}

type verb func(ctx context.Context, c *call)

// verbs are what systemctl can do here.
func (m *manager) verbs() map[string]verb {
	nothing := func(context.Context, *call) {}
	restart := func(onlyActive bool) verb {
		return m.each(func(ctx context.Context, name string) error {
			if onlyActive && m.stateOf(name) != active {
				return nil
			}
			return errors.Join(m.stop(name), m.start(ctx, name))
		})
	}
	return map[string]verb{
		"":      m.listUnits,
		"start": m.each(m.start),
		"stop":  m.each(func(_ context.Context, name string) error { return m.stop(name) }), "restart": restart(false),
		"try-restart": restart(true), "condrestart": restart(true),
		"reload": m.each(m.reload), "reload-or-restart": m.each(m.reloadOrRestart), "try-reload-or-restart": restart(true),
		"enable": m.enable, "reenable": m.reenable, "disable": m.disable,
		"mask": m.mask, "unmask": m.unmask,
		"is-active": m.isActive, "is-failed": m.isFailed, "is-enabled": m.isEnabled,
		"is-system-running": func(_ context.Context, c *call) { c.printf("running\n") },
		"status":            m.status, "show": m.show, "cat": m.cat,
		"list-units": m.listUnits, "get-default": func(_ context.Context, c *call) { c.printf("multi-user.target\n") },
		"daemon-reload": nothing, "daemon-reexec": nothing, "reset-failed": m.resetFailed, // unit files are read when used
		"poweroff": m.powerOff, "halt": m.powerOff,
	}
}

// each does something with every unit of the call.
func (m *manager) each(do func(ctx context.Context, name string) error) verb {
	return func(ctx context.Context, c *call) {
		if len(c.units) == 0 {
			c.fail(errors.New("too few arguments"))
		}
		for _, name := range c.units {
			if c.noBlock {
				m.supervising.Go(func() {
					if err := do(ctx, name); err != nil {
						m.console.say("%v", err)
					}
				})
				continue
			}
			if err := do(ctx, name); err != nil {
				c.fail(err)
			}
		}
	}
}

func (m *manager) reloadOrRestart(ctx context.Context, name string) error {
	if m.reload(ctx, name) == nil {
		return nil
	}
	return errors.Join(m.stop(name), m.start(ctx, name))
}

// stateOf follows aliases.
func (m *manager) stateOf(name string) state {
	name = unit.FullName(name)
	if loaded, err := unit.Load("/", name); err == nil {
		name = loaded.Name
	}
	if unit.Kind(name) == "target" {
		return active
	}
	return m.service(name).current()
}

func (m *manager) enable(ctx context.Context, c *call) {
	for _, name := range c.units {
		// A path is a unit file to be linked to first.
		if filepath.IsAbs(name) {
			target := filepath.Join("/etc/systemd/system", filepath.Base(name))
			if err := os.Symlink(name, target); err != nil && !errors.Is(err, os.ErrExist) {
				c.fail(err)
				continue
			}
		}
		done, err := unit.Enable("/", filepath.Base(name))
		for _, line := range done {
			fmt.Fprintln(&c.problems, line) // systemctl prints these there
		}
		if err != nil {
			c.fail(err)
			c.code = codeFailed
		}
	}
	if c.now && c.code == 0 {
		for i, name := range c.units {
			c.units[i] = filepath.Base(name)
		}
		m.each(m.start)(ctx, c)
	}
}

func (m *manager) reenable(ctx context.Context, c *call) {
	for _, name := range c.units {
		if _, err := unit.Disable("/", name); err != nil {
			c.fail(err)
		}
	}
	m.enable(ctx, c)
}

func (m *manager) disable(_ context.Context, c *call) {
	for _, name := range c.units {
		done, err := unit.Disable("/", name)
		for _, line := range done {
			fmt.Fprintln(&c.problems, line)
		}
		if err == nil && c.now {
			err = m.stop(name)
		}
		if err != nil {
			c.fail(err)
		}
	}
}

func (m *manager) mask(_ context.Context, c *call) {
	for _, name := range c.units {
		if c.now {
			if err := m.stop(name); err != nil {
				c.fail(err)
			}
		}
		if err := unit.Mask("/", name); err != nil {
			c.fail(err)
		}
	}
}

func (m *manager) unmask(_ context.Context, c *call) {
	for _, name := range c.units {
		if err := unit.Unmask("/", name); err != nil {
			c.fail(err)
		}
	}
}

func (m *manager) resetFailed(_ context.Context, c *call) {
	names := c.units
	if len(names) == 0 {
		names = m.known()
	}
	for _, name := range names {
		if s := m.service(unit.FullName(name)); s.current() == failed {
			s.set(inactive, 0)
		}
	}
}

// powerOff ends the machine after systemctl has had its answer.
func (m *manager) powerOff(ctx context.Context, _ *call) {
	m.console.say("machine is told to switch itself off")
	m.supervising.Go(func() {
		pause(ctx, haltDelay, nil)
		m.halt()
	})
}

// anyOf ends like systemctl's questions: well if one unit is in one of the states.
func (m *manager) anyOf(c *call, states []state, otherwise int) {
	c.code = otherwise
	for _, name := range c.units {
		current := m.stateOf(name)
		c.printf("%s\n", current)
		if slices.Contains(states, current) {
			c.code = 0
		}
	}
}

func (m *manager) isActive(_ context.Context, c *call) { m.anyOf(c, []state{active}, codeInactive) }
func (m *manager) isFailed(_ context.Context, c *call) { m.anyOf(c, []state{failed}, codeFailed) }

func (m *manager) isEnabled(_ context.Context, c *call) {
	c.code = codeFailed
	for _, name := range c.units {
		state, err := unit.State("/", name)
		if err != nil {
			fmt.Fprintln(&c.problems, err)
			continue
		}
		c.printf("%s\n", state)
		if state == "enabled" || state == "static" {
			c.code = 0
		}
	}
}
