// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// EndGroup returns when nothing of the process' group is left, and kills what is still there after grace. It is for
// processes that have ended, and whose helpers end a moment later because of that.
func (p *Process) EndGroup(ctx context.Context, grace time.Duration) error {
	patience, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	left, err := p.awaitGroup(patience)
	if err != nil || len(left) == 0 {
		return err
	}
	// The number of a group is not given to another process while it has members.
	if err := syscall.Kill(-p.rec.PID, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		return fmt.Errorf("kill what %s left: %w", p.Name(), err)
	}
	killed, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	left, err = p.awaitGroup(killed)
	if err == nil && len(left) > 0 {
		return fmt.Errorf("%s left processes that do not end: %v", p.Name(), left)
	}
	return err
}

// awaitGroup returns what is left of the group when ctx is done, or nothing as soon as that is so.
func (p *Process) awaitGroup(ctx context.Context) ([]int, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		left, err := p.group()
		if err != nil || len(left) == 0 {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return left, nil
		case <-ticker.C:
		}
	}
}

// group lists the members of the group that run. The leader has to have ended: a process with its number is another one,
// and then the group is gone, since a number is not given away while a group has it.
func (p *Process) group() ([]int, error) {
	if syscall.Kill(-p.rec.PID, 0) == syscall.ESRCH {
		return nil, nil
	}
	boot, err := bootID()
	if err != nil || boot != p.rec.BootID {
		return nil, err
	}
	if found, err := stat(p.rec.PID); err == nil && found.startTime != p.rec.StartTime {
		return nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var members []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if found, err := stat(pid); err == nil && found.group == p.rec.PID && found.runs() {
			members = append(members, pid)
		}
	}
	return members, nil
}
