// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/logging"
)

const (
	dialTimeout = 5 * time.Second
	acceptPause = 100 * time.Millisecond
)

// forward passes every connection that the listener accepts on to address, until ctx is done or the listener is
// closed. It closes the listener, and returns after all connections are closed.
func forward(ctx context.Context, listener net.Listener, dial kube.DialFunc, address string) {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		near, err := listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			logging.From(ctx).WarnContext(ctx, "connection not accepted", "error", err)
			pause(ctx, acceptPause) // out of descriptors, most likely
			continue
		}
		connections.Go(func() {
			if err := pass(ctx, near, dial, address); err != nil {
				logging.From(ctx).WarnContext(ctx, "connection not forwarded", "address", address, "error", err)
			}
		})
	}
}

// pass copies in both directions until both ends are done, or ctx is.
func pass(ctx context.Context, near net.Conn, dial kube.DialFunc, address string) error {
	defer func() { _ = near.Close() }()
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	far, err := dial(dialing, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = far.Close() }()
	stop := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
	defer stop()
	var copies sync.WaitGroup
	copies.Go(func() { copyAndClose(far, near) })
	copies.Go(func() { copyAndClose(near, far) })
	copies.Wait()
	return nil
}

// copyAndClose copies until the source ends and passes the end on; the other direction may go on. How a connection
// ends is between the two who use it.
func copyAndClose(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, canHalf := to.(interface{ CloseWrite() error })
	if err == nil && canHalf {
		_ = half.CloseWrite()
		return
	}
	_, _ = to.Close(), from.Close()
}

// pause waits, or returns at once when ctx is done.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
