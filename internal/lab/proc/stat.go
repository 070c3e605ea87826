// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Positions in /proc/PID/stat, counted from the field after the command name (proc(5) numbers that one 3).
const (
	statState     = 0
	statGroup     = 2
	statStartTime = 19
)

// facts are what the kernel tells of a process.
type facts struct {
	state string
	// group is the number of its process group.
	group int
	// startTime is in clock ticks since boot.
	startTime uint64
}

// runs tells that the process has not ended, collected or not.
func (f facts) runs() bool { return f.state != "Z" && f.state != "X" }

// stat reads what the kernel tells of a process.
func stat(pid int) (facts, error) {
	data, err := os.ReadFile(filepath.Clean("/proc/" + strconv.Itoa(pid) + "/stat"))
	if err != nil {
		return facts{}, fmt.Errorf("read state of process %d: %w", pid, err)
	}
	// The command name is in parentheses and may hold anything, even a parenthesis: the last one ends it.
	_, rest, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) <= statStartTime {
		return facts{}, fmt.Errorf("state of process %d has %d fields", pid, len(fields))
	}
	group, err := strconv.Atoi(fields[statGroup])
	if err != nil {
		return facts{}, fmt.Errorf("group of process %d: %w", pid, err)
	}
	startTime, err := strconv.ParseUint(fields[statStartTime], 10, 64)
	if err != nil {
		return facts{}, fmt.Errorf("start time of process %d: %w", pid, err)
	}
	return facts{state: fields[statState], group: group, startTime: startTime}, nil
}

// bootID names this boot of the machine; start times of different boots do not compare.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
