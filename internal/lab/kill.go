// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// killRounds bounds how often survivors are looked for: a process may start another while it is being killed.
const killRounds = 50

// killAll kills all processes that match. They are found by what they are, so this needs no records, and a process that
// the lab knows nothing of does not keep a network namespace alive.
func killAll(ctx context.Context, matches func(pid int) bool) error {
	left := 0
	for range killRounds {
		found, err := killOnce(matches)
		if err != nil || found == 0 {
			return err
		}
		left = found
		pause(ctx, lockInterval)
		if ctx.Err() != nil {
			return fmt.Errorf("end %d processes: %w", left, ctx.Err())
		}
	}
	return fmt.Errorf("%d processes do not end", left)
}

// killOnce kills the processes that match and counts them. The handle on each is taken before looking, so that the number
// cannot pass to another process in between.
func killOnce(matches func(pid int) bool) (found int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		handle, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // ended meanwhile
		}
		if matches(pid) {
			found++
			_ = unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0) // it is looked for again
		}
		_ = unix.Close(handle)
	}
	return found, nil
}

// inNamespace matches the processes in the network namespace mounted at path, none if there is no such namespace.
func inNamespace(path string) func(pid int) bool {
	var namespace unix.Stat_t
	err := unix.Stat(path, &namespace)
	return func(pid int) bool {
		var its unix.Stat_t
		return err == nil && unix.Stat(procPath(pid, "ns/net"), &its) == nil && its.Ino == namespace.Ino && its.Dev == namespace.Dev
	}
}

// runsProgram matches the processes that run a program, which may have been removed meanwhile.
func runsProgram(program string) func(pid int) bool {
	return func(pid int) bool {
		running, err := os.Readlink(procPath(pid, "exe"))
		return err == nil && strings.TrimSuffix(running, " (deleted)") == program
	}
}

func procPath(pid int, file string) string { return filepath.Join("/proc", strconv.Itoa(pid), file) }
