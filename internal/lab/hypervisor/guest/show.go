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

// statusLines is how much of a service's log its status shows.
const statusLines = 10

func (m *manager) status(_ context.Context, c *call) {
	for _, name := range c.units {
		name = unit.FullName(name)
		loaded, err := unit.Load("/", name)
		if err != nil {
			fmt.Fprintf(&c.problems, "Unit %s could not be found.\n", name)
			c.code = codeNoSuchUnit
			continue
		}
		s := m.service(loaded.Name)
		current := s.current()
		enabled, err := unit.State("/", name)
		if err != nil {
			enabled = "unknown"
		}
		c.printf("%s - %s\n", loaded.Name, loaded.Last("Unit", "Description"))
		c.printf("     Loaded: loaded (%s; %s)\n", loaded.Path, enabled)
		for _, path := range loaded.DropIns {
			c.printf("    Drop-In: %s\n", path)
		}
		c.printf("     Active: %s\n", current)
		if pid := s.pid(); pid != 0 {
			c.printf("   Main PID: %d\n", pid)
		}
		c.printf("\n%s", logEnd(filepath.Join(logDir, loaded.Name+".log"), statusLines))
		if current != active && c.code == 0 {
			c.code = codeInactive
		}
	}
}

// logEnd is the last lines of a log.
func logEnd(path string, lines int) string {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return ""
	}
	all := strings.SplitAfter(string(data), "\n")
	return strings.Join(all[max(0, len(all)-lines-1):], "")
}

// show prints properties of units, as scripts ask for them.
func (m *manager) show(_ context.Context, c *call) {
	for _, name := range c.units {
		properties := m.properties(unit.FullName(name))
		for _, property := range properties {
			key, value, _ := strings.Cut(property, "=")
			if len(c.properties) > 0 && !slices.Contains(c.properties, key) {
				continue
			}
			if c.value {
				c.printf("%s\n", value)
			} else {
				c.printf("%s\n", property)
			}
		}
	}
}

func (m *manager) properties(name string) []string {
	loaded, err := unit.Load("/", name)
	switch {
	case errors.Is(err, unit.ErrMasked):
		return []string{"Id=" + name, "LoadState=masked", "ActiveState=inactive", "SubState=dead", "UnitFileState=masked"}
	case err != nil:
		return []string{"Id=" + name, "LoadState=not-found", "ActiveState=inactive", "SubState=dead", "UnitFileState="}
	}
	s := m.service(loaded.Name)
	enabled, err := unit.State("/", name)
	if err != nil {
		enabled = ""
	}
	sub := map[state]string{active: "running", failed: "failed", inactive: "dead", activating: "start", deactivating: "stop-sigterm"}
	s.mu.Lock()
	defer s.mu.Unlock()
	since := ""
	if !s.since.IsZero() {
		since = s.since.UTC().Format(time.RFC1123)
	}
	return []string{
		"Id=" + loaded.Name, "Description=" + loaded.Last("Unit", "Description"), "LoadState=loaded", "FragmentPath=" + loaded.Path,
		"DropInPaths=" + strings.Join(loaded.DropIns, " "), "UnitFileState=" + enabled,
		"ActiveState=" + string(s.state), "SubState=" + sub[s.state], fmt.Sprintf("MainPID=%d", s.mainPID),
		"StateChangeTimestamp=" + since, "Type=" + loaded.Last("Service", "Type"),
	}
}

func (m *manager) cat(_ context.Context, c *call) {
	for _, name := range c.units {
		loaded, err := unit.Load("/", name)
		if err != nil {
			c.fail(err)
			continue
		}
		for _, path := range append([]string{loaded.Path}, loaded.DropIns...) {
			data, err := os.ReadFile(filepath.Clean(path))
			if err != nil {
				c.fail(err)
				continue
			}
			c.printf("# %s\n%s\n", path, data)
		}
	}
}

func (m *manager) listUnits(_ context.Context, c *call) {
	for _, name := range m.known() {
		if current := m.service(name).current(); current != inactive {
			c.printf("%-40s loaded %s\n", name, current)
		}
	}
}
