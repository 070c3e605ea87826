// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// notifications is the socket on which a service says that it is ready.
type notifications struct {
	path  string
	ready chan struct{} // closed when it is, by the reader
	conn  net.PacketConn
	done  sync.WaitGroup
}

func listenNotify(ctx context.Context, name string) (*notifications, error) {
	path := filepath.Join(privateDir, "notify", name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "unixgram", path)
	if err != nil {
		return nil, fmt.Errorf("listen for %s to be ready: %w", name, err)
	}
	if err := os.Chmod(path, 0o777); err != nil { //nolint:gosec // services are other users
		return nil, errors.Join(err, conn.Close())
	}
	n := &notifications{path: path, ready: make(chan struct{}), conn: conn}
	n.done.Go(n.read)
	return n, nil
}

// read goes on after the service is ready: a full socket would hold it up.
func (n *notifications) read() {
	ready := false
	buffer := make([]byte, 4096)
	for {
		length, _, err := n.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		lines := strings.Split(string(buffer[:length]), "\n")
		if !ready && slices.Contains(lines, "READY=1") {
			ready = true
			close(n.ready)
		}
	}
}

// close does nothing for a service that has none.
func (n *notifications) close() error {
	if n == nil {
		return nil
	}
	err := n.conn.Close()
	n.done.Wait()
	return err
}
