// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// CarriedPrefix is what the names of WebSocket's sub-protocols begin with that carry
// SPDY; the rest is what is spoken inside SPDY. Kubernetes uses it for port-forward.
const CarriedPrefix = "SPDY/3.1+"

const (
	headerStreamProtocol = "X-Stream-Protocol-Version"
	// goodbye bounds how long the end of WebSocket may take to be written.
	goodbye = time.Second
)

// CarriesSPDY reports whether r asks for WebSocket that carries SPDY.
func CarriesSPDY(r *http.Request) bool {
	return Protocol(r) == WebSocket && len(carriedProtocols(r)) > 0
}

func carriedProtocols(r *http.Request) []string {
	var carried []string
	for _, offered := range websocket.Subprotocols(r) {
		if protocol, ok := strings.CutPrefix(offered, CarriedPrefix); ok {
			carried = append(carried, protocol)
		}
	}
	return carried
}

// ServeSPDY is Serve for a far side that speaks SPDY: WebSocket that carries SPDY is
// taken apart here. WebSocket itself would hide from the far side that a caller has
// hung up, because Kubernetes' API server translates it and does not pass that on,
// and stop a stream whose reader stops for a minute.
func ServeSPDY(w http.ResponseWriter, r *http.Request, proxy *httputil.ReverseProxy, limits Limits) error {
	t := &tunnel{limits: limits}
	if CarriesSPDY(r) {
		t.carrier = r
		r = r.Clone(r.Context())
		r.Method, r.Body, r.ContentLength = http.MethodPost, http.NoBody, 0
		r.Header.Set("Upgrade", "SPDY/3.1")
		r.Header[headerStreamProtocol] = carriedProtocols(t.carrier)
		for _, name := range []string{headerProtocols, "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions"} {
			r.Header.Del(name)
		}
	}
	return serve(w, r, proxy, t)
}

// carry answers the caller's upgrade to WebSocket, once the far side has answered its
// own to SPDY. What the proxy writes of that answer is dropped.
func (t *tunnel) carry(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
	upgrader := websocket.Upgrader{Subprotocols: []string{CarriedPrefix + t.protocol}}
	conn, err := upgrader.Upgrade(w, t.carrier, nil)
	if err != nil {
		return nil, nil, err
	}
	user := t.userSide(Carried(conn))
	return user, bufio.NewReadWriter(bufio.NewReader(user), bufio.NewWriter(io.Discard)), nil
}

// Carried is the connection that conn carries. Like any connection it may be read by
// one and written to by another at the same time.
func Carried(conn *websocket.Conn) net.Conn {
	return &carried{Conn: conn.NetConn(), socket: conn}
}

type carried struct {
	net.Conn // of this, the addresses, the deadlines and the end

	socket  *websocket.Conn
	message io.Reader
}

// NetConn is the connection that carries.
func (c *carried) NetConn() net.Conn { return c.Conn }

func (c *carried) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			kind, message, err := c.socket.NextReader()
			switch {
			case websocket.IsCloseError(err, websocket.CloseNormalClosure):
				return 0, io.EOF
			case err != nil:
				return 0, err
			case kind != websocket.BinaryMessage:
				return 0, errors.New("text where SPDY was expected")
			}
			c.message = message
		}
		n, err := c.message.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		c.message = nil
		if n > 0 {
			return n, nil
		}
	}
}

func (c *carried) Write(p []byte) (int, error) {
	if err := c.socket.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite says goodbye.
func (c *carried) CloseWrite() error {
	return c.socket.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(goodbye))
}
