// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// gentleLinger is how long a peer may take to hang up that was given everything.
	gentleLinger = 5 * time.Second
	// gentleLimit is how long it may take to be given everything.
	gentleLimit = 4 * time.Hour
)

// Gentle returns conn, whose Close waits until the peer has taken everything that was
// written and has hung up, if it does so soon. What a peer sends to a connection that
// is closed, be it a ping, makes the kernel drop all that the peer has not taken yet.
// conn has to end by itself when the peer is gone; see Watch.
func Gentle(conn net.Conn) net.Conn {
	return &gentle{Conn: conn, once: sync.OnceValue(func() error { return part(conn) })}
}

type gentle struct {
	net.Conn

	once func() error
}

// Close implements net.Conn.
func (g *gentle) Close() error { return g.once() }

// NetConn is the connection itself.
func (g *gentle) NetConn() net.Conn { return g.Conn }

func part(conn net.Conn) error {
	for limit := time.Now().Add(gentleLimit); unsent(conn) && time.Now().Before(limit); {
		if !drain(conn, watchPeriod) {
			return conn.Close()
		}
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		drain(conn, gentleLinger)
	}
	return conn.Close()
}

// drain drops what the peer sends, for some time; it returns false when the peer has
// hung up before.
func drain(conn net.Conn, limit time.Duration) bool {
	if conn.SetReadDeadline(time.Now().Add(limit)) != nil {
		return false
	}
	_, err := io.Copy(io.Discard, conn)
	return errors.Is(err, os.ErrDeadlineExceeded)
}
