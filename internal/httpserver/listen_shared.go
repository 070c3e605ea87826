// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/logging"
)

// readyInterval is how often a server that shares its port asks whether it is ready.
const readyInterval = 50 * time.Millisecond

// sharedAddress checks an address on which listening has to wait.
func sharedAddress(address string) (net.Addr, error) {
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("address %q: want host:port: %w", address, err)
	}
	if resolved.Port == 0 {
		return nil, fmt.Errorf("address %q: a shared port must be given", address)
	}
	return resolved, nil
}

// listenShared listens on a port that others may listen on, too.
func listenShared(ctx context.Context, address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, connection syscall.RawConn) error {
		var failure error
		err := connection.Control(func(descriptor uintptr) {
			failure = unix.SetsockoptInt(int(descriptor), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		return errors.Join(err, failure)
	}}
	return config.Listen(ctx, "tcp", address)
}

// awaitReady returns once the server is ready, or tells that ctx was done before.
func (s *Server) awaitReady(ctx context.Context) bool {
	if s.cfg.Ready == nil {
		return ctx.Err() == nil
	}
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	said := false
	for {
		err := s.cfg.Ready(ctx)
		switch {
		case ctx.Err() != nil:
			return false
		case err == nil:
			return true
		case !said:
			logging.From(ctx).InfoContext(ctx, "server listens when it is ready", "server", s.cfg.Name, "reason", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}
