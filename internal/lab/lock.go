// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const lockInterval = 100 * time.Millisecond

// lockLabs lets one command at a time make or remove labs on this machine. The lock is on the directory of all labs, so
// that it leaves no file; the kernel frees it when the command ends in whatever way.
func lockLabs(ctx context.Context, detail func(string)) (unlock func(), err error) {
	if err := os.MkdirAll(stateDir(), 0o755); err != nil { //nolint:gosec // the files below have rights of their own
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	dir, err := os.Open(stateDir())
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			detail("")
			return func() { _ = dir.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock state directory: %w", err), dir.Close())
		}
		detail("waiting for another caas-lab command")
		pause(ctx, lockInterval)
		if ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), dir.Close())
		}
	}
}
