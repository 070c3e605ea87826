// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerClosed tells whether the peer has closed the connection or its half of it,
// also while there is something to be read.
func peerClosed(raw syscall.RawConn) bool {
	closed := false
	err := raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // a file descriptor is no larger
		n, err := unix.Poll(poll, 0)
		closed = err == nil && n > 0 && poll[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return err == nil && closed
}

// unsent tells whether the peer has not taken everything that was written; the end
// itself counts for one.
func unsent(conn net.Conn) bool {
	raw := rawOf(conn)
	if raw == nil {
		return false
	}
	left := 0
	err := raw.Control(func(fd uintptr) {
		if n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			left = n
		}
	})
	return err == nil && left > 1
}
