// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/unit"
	"github.com/cloudveneto/caas/internal/lab/node"
)

// stage is a program that is run at boot.
type stage struct {
	name, path string
	args       []string
}

// boot mounts the machine's disks and runs cloud-init's stages in the order that their units
// have on a real machine, and starts enabled services where multi-user.target would be
// reached.
func boot(ctx context.Context, children *node.Children, console *console, services *manager) {
	hostname, _ := os.Hostname() // only for people to read
	console.say("machine %s boots", hostname)
	for _, stage := range []stage{
		{"local-fs", "mount", []string{"--all"}},
		{"cloud-init-local", "cloud-init", []string{"init", "--local"}},
		{"cloud-init", "cloud-init", []string{"init"}},
	} {
		runStage(ctx, children, console, stage)
	}
	services.startEnabled(ctx)
	for _, stage := range []stage{
		{"cloud-config", "cloud-init", []string{"modules", "--mode=config"}},
		{"cloud-final", "cloud-init", []string{"modules", "--mode=final"}},
	} {
		runStage(ctx, children, console, stage)
	}
	console.say("machine %s is up", hostname)
}

// runStage goes on when a stage fails, as a real machine does.
func runStage(ctx context.Context, children *node.Children, console *console, stage stage) {
	console.say("starting %s", stage.name)
	status, err := children.Run(ctx, node.Program{
		Name: stage.name, Path: stage.path, Args: stage.args, Log: consolePath, Env: baseEnvironment(), Dir: "/",
	})
	switch {
	case err != nil:
		console.say("%s does not run: %v", stage.name, err)
	case status != 0:
		console.say("%s ended with %d", stage.name, status)
	default:
		console.say("finished %s", stage.name)
	}
}

// baseEnvironment is that of a service.
func baseEnvironment() []string {
	return []string{"PATH=" + searchPath, "LANG=C.UTF-8"}
}

// startEnabled starts the services that the machine has at boot, each after those that it
// wants to be after.
func (m *manager) startEnabled(ctx context.Context) {
	names, err := unit.Wanted("/", "multi-user.target")
	if err != nil {
		m.console.say("enabled services: %v", err)
		return
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !startsAtBoot(name) })
	for _, name := range inOrder(names) {
		if err := m.start(ctx, name); err != nil {
			m.console.say("start %s: %v", name, err)
		}
	}
}

// startsAtBoot leaves out what is no service, what is a part of systemd and needs it, and
// what Init does itself.
func startsAtBoot(name string) bool {
	for _, prefix := range []string{"systemd-", "cloud-", "getty", "serial-getty", "networking", "dbus"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return unit.Kind(name) == "service"
}

// inOrder puts units after those of the list that they name in After=, and keeps the order
// otherwise. Circles are broken where they are found.
func inOrder(names []string) []string {
	after := map[string][]string{}
	for _, name := range names {
		loaded, err := unit.Load("/", name)
		if err != nil {
			continue // starting it will say so
		}
		after[name] = append(after[name], loaded.Words("Unit", "After")...)
		for _, later := range loaded.Words("Unit", "Before") {
			after[later] = append(after[later], name)
		}
	}
	var ordered []string
	visited := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if visited[name] || !slices.Contains(names, name) {
			return
		}
		visited[name] = true
		for _, earlier := range after[name] {
			visit(earlier)
		}
		ordered = append(ordered, name)
	}
	for _, name := range names {
		visit(name)
	}
	return ordered
}
