// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// socketMode lets the owner and the group of a unix socket connect.
const socketMode = 0o660

func listen(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix://")
	if !unix {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("address %q: want host:port or unix:///path", address)
		}
		// Listening does not block, so there is nothing to cancel.
		return (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	}
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("address %q: want unix:///path with an absolute path", address)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("unix socket %s: %w", path, err)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("unix socket %s: %w", path, err), listener.Close())
	}
	return listener, nil
}

// removeStale removes the socket file that a killed process left behind, and
// nothing else: not another kind of file, not a socket that somebody serves.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("the path exists and is no socket")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(errors.New("another process is serving it"), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
