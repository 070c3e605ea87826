// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab/node"
	"github.com/cloudveneto/caas/internal/logging"
)

// Init boots the machine that the configuration file describes, and runs it until ctx ends
// or the machine switches itself off. It MUST be started in the machine's network
// namespace; it makes the others and starts itself again as their first process.
func Init(ctx context.Context, configPath string) error {
	config, err := load(configPath)
	if err != nil {
		return err
	}
	if os.Getpid() != 1 {
		return enter(config, configPath)
	}
	if err := prepare(ctx, config); err != nil {
		return fmt.Errorf("prepare machine: %w", err)
	}
	return run(ctx)
}

// enter puts this process into the machine's cgroups and becomes unshare, which stays
// outside as the parent of the machine's first process: the namespace of cgroups is rooted
// where the process that makes it is.
func enter(config *Config, configPath string) error {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return err
	}
	if err := joinCgroups(config.Cgroup); err != nil {
		return err
	}
	runtime.LockOSThread() // what follows is this thread's, and that of what it becomes
	for _, capability := range withheld() {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	arguments := []string{
		"unshare", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child", "--",
		config.Program, InitCommand, configPath,
	}
	// Programs ask the environment of the first process whether they are in a container.
	environment := []string{"PATH=" + searchPath, "LANG=C.UTF-8", "container=caas-lab", "TERM=dumb", "HOME=/root"}
	return fmt.Errorf("become unshare: %w", unix.Exec(unshare, arguments, environment))
}

// withheld are the capabilities for what the machine shares with the one it is on: the
// clock and the kernel's modules.
func withheld() []uintptr { return []uintptr{unix.CAP_SYS_TIME, unix.CAP_SYS_MODULE} }

// joinCgroups moves this process.
func joinCgroups(path string) error {
	cgroups, err := node.FindCgroups()
	if err != nil {
		return err
	}
	dirs := make([]string, 0, len(cgroups.V1)+1)
	for _, hierarchy := range cgroups.V1 {
		dirs = append(dirs, hierarchy.Path)
	}
	if len(dirs) == 0 {
		dirs = append(dirs, cgroups.V2)
	}
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, path, "cgroup.procs"), []byte("0"), 0o600); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// prepare makes the namespaces the machine.
func prepare(ctx context.Context, config *Config) error {
	pid, err := os.Readlink("/proc/self") // still the outer one
	if err != nil {
		return err
	}
	if err := os.WriteFile(config.path(PIDFile), []byte(pid), 0o600); err != nil {
		return err
	}
	if err := makeRoot(config); err != nil {
		return err
	}
	if err := writeFiles(config); err != nil {
		return err
	}
	if err := attachDisk(ctx, config); err != nil {
		logging.From(ctx).Warn("no second disk", "error", err)
	}
	if err := pivot(config); err != nil {
		return err
	}
	return setHostname()
}

// setHostname gives the machine the name that it has had since its first boot.
func setHostname() error {
	name, err := os.ReadFile("/etc/hostname")
	if err != nil {
		return err
	}
	if err := unix.Sethostname(trimmed(name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	return nil
}

func trimmed(line []byte) []byte {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == ' ') {
		line = line[:len(line)-1]
	}
	return line
}

// run is the machine's life.
func run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	console, err := openConsole()
	if err != nil {
		return err
	}
	console.copy()
	children := node.NewChildren(ctx)
	manager := newManager(children, console, cancel)
	if err := manager.listen(ctx); err != nil {
		return err
	}
	boot(ctx, children, console, manager)
	<-ctx.Done()
	console.say("machine halts")
	return nil // and the kernel ends all that still runs, as it does when the plug is pulled
}

// writeFiles puts the hardware's files onto the machine's disk.
func writeFiles(config *Config) error {
	booted := config.path("booted")
	_, err := os.Stat(booted)
	again := err == nil
	for _, file := range config.Files {
		if file.Once && again {
			continue
		}
		path := config.root(file.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the usual mode of directories of a machine
			return err
		}
		// The image may have a link there, which would be followed out of the machine.
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(path, file.Content, file.Mode); err != nil {
			return err
		}
		if err := os.Chmod(path, file.Mode); err != nil {
			return err
		}
	}
	return os.WriteFile(booted, nil, 0o600)
}
