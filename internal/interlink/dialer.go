// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/cloudveneto/caas/internal/tunnel"
)

const (
	// upgradeTimeout bounds the time until a connection is upgraded: the far end's
	// cluster has to reach the pod's node.
	upgradeTimeout = time.Minute
	// streamBuffer is how much of WebSocket is read or written at once.
	streamBuffer = 32 << 10
)

var errNoUpgrade = errors.New("the far end did not open the stream in time")

// dialer upgrades one connection to the far end, with the client's own identity, to
// SPDY inside WebSocket, which passes ingresses and proxies, and to SPDY when that is
// not understood. It is the transport and the upgrader of client-go's SPDY side.
//
// It is not WebSocket as client-go's own executor speaks it: that gives up on a
// stream whose reader stops for a minute, and Kubernetes' API server, which has to
// translate it, does not tell kubelets that its caller has hung up.
type dialer struct {
	client *Client
	// ctx bounds the upgrade; client-go's dialers take none.
	ctx  context.Context //nolint:containedctx // see above
	kind StreamKind
	// err is why there was no answer at all. An error of RoundTrip would be told with
	// the request's URL, in which the command is.
	err error

	// ended is true once the far end has told how a command ended.
	ended atomic.Bool

	mu sync.Mutex
	// conn is the upgraded connection; client-go closes an answer's body.
	conn net.Conn
}

// RoundTrip implements http.RoundTripper: it asks for the upgrade.
func (d *dialer) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(d.ctx)
	timer := time.AfterFunc(upgradeTimeout, func() { cancel(errNoUpgrade) })
	defer timer.Stop()
	answer, err := d.upgrade(r.Clone(ctx))
	if err != nil {
		defer cancel(nil)
		d.err = causeOf(ctx, err)
		return noAnswer(), nil
	}
	context.AfterFunc(d.ctx, func() { cancel(nil) })
	if code := answer.StatusCode; code >= http.StatusMultipleChoices && code < http.StatusBadRequest {
		answer.StatusCode = http.StatusBadGateway // client-go would follow it, and sign again
	}
	return answer, nil
}

func noAnswer() *http.Response {
	return &http.Response{StatusCode: http.StatusBadGateway, Header: http.Header{}, Body: http.NoBody}
}

func (d *dialer) upgrade(r *http.Request) (*http.Response, error) {
	if err := d.client.sign(r.Header, string(d.kind)); err != nil {
		return nil, err
	}
	if !d.client.unix { // there are no proxies on a unix socket
		answer, err := d.client.trace(roundTrip(d.websocket)).RoundTrip(r.Clone(r.Context()))
		if err != nil || answer.StatusCode == http.StatusSwitchingProtocols || isFinal(answer) {
			return answer, err
		}
		_ = answer.Body.Close()
	}
	return d.client.trace(roundTrip(d.spdy)).RoundTrip(r)
}

// isFinal reports whether an answer is a refusal of the far end itself, which is the
// same by any protocol. Something before it that does not let WebSocket pass signs
// nothing, and a plugin that does not know it answers 400.
func isFinal(answer *http.Response) bool {
	return answer.Header.Get(HeaderSession) != "" && answer.StatusCode != http.StatusBadRequest
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// websocket asks for SPDY inside WebSocket, and answers as if it were SPDY.
func (d *dialer) websocket(r *http.Request) (*http.Response, error) {
	header := r.Header.Clone()
	protocols := header.Values(httpstream.HeaderProtocolVersion)
	for _, name := range []string{httpstream.HeaderProtocolVersion, "Connection", "Upgrade"} {
		header.Del(name)
	}
	dial := websocket.Dialer{
		ReadBufferSize: streamBuffer, WriteBufferSize: streamBuffer,
		NetDialContext: d.client.dial(), TLSClientConfig: d.client.tls(),
	}
	for _, protocol := range protocols {
		dial.Subprotocols = append(dial.Subprotocols, tunnel.CarriedPrefix+protocol)
	}
	target := *r.URL
	target.Scheme = map[string]string{"http": "ws", "https": "wss"}[target.Scheme]
	socket, answer, err := dial.DialContext(r.Context(), target.String(), header)
	switch {
	case errors.Is(err, websocket.ErrBadHandshake) && answer != nil:
		return answer, nil
	case err != nil:
		return nil, err
	}
	protocol, ok := strings.CutPrefix(socket.Subprotocol(), tunnel.CarriedPrefix)
	if !ok {
		_ = socket.Close()
		return nil, fmt.Errorf("the far end speaks %q inside WebSocket instead of SPDY", socket.Subprotocol())
	}
	d.take(tunnel.Carried(socket))
	return &http.Response{
		StatusCode: http.StatusSwitchingProtocols, Body: http.NoBody,
		Header: http.Header{httpstream.HeaderProtocolVersion: {protocol}},
	}, nil
}

// spdy asks for SPDY.
func (d *dialer) spdy(r *http.Request) (*http.Response, error) {
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "SPDY/3.1")
	answer, err := d.client.streams.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if body, ok := answer.Body.(io.ReadWriteCloser); ok && answer.StatusCode == http.StatusSwitchingProtocols {
		d.take(&bodyConn{ReadWriteCloser: body})
		answer.Body = http.NoBody
	}
	return answer, nil
}

// NewConnection implements httpstream.UpgradeRoundTripper.
func (d *dialer) NewConnection(answer *http.Response) (httpstream.Connection, error) { //nolint:ireturn // client-go's own seam
	switch {
	case d.err != nil:
		return nil, d.err
	case answer.StatusCode != http.StatusSwitchingProtocols:
		return nil, statusError(string(d.kind), answer)
	}
	conn := d.taken()
	if conn == nil {
		return nil, errors.New("the connection cannot be written to")
	}
	spdy, err := newConnection(conn)
	if err != nil {
		return nil, err
	}
	return &ending{Connection: spdy, told: &d.ended}, nil
}

func (d *dialer) take(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn = conn
}

func (d *dialer) taken() net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conn
}

// hangUp closes the connection without a word: a goodbye could wait for a far end
// that takes nothing any more.
func (d *dialer) hangUp() {
	if conn := d.taken(); conn != nil {
		tunnel.Drop(conn)
	}
}

// dial is how the client's own transport connects; nil for the usual way.
func (c *Client) dial() func(ctx context.Context, network, address string) (net.Conn, error) {
	if transport, ok := c.streams.Transport.(*http.Transport); ok {
		return transport.DialContext
	}
	return nil
}

// tls is the configuration of the client's own transport, for one connection that
// speaks HTTP/1.1.
func (c *Client) tls() *tls.Config {
	if c.streams.TLS == nil {
		return nil
	}
	config := c.streams.TLS.Clone()
	config.NextProtos = []string{"http/1.1"}
	return config
}

func (c *Client) trace(next http.RoundTripper) http.RoundTripper {
	if c.streams.Wrap == nil {
		return next
	}
	return c.streams.Wrap(next)
}

// sign adds what every request to the far end carries.
func (c *Client) sign(header http.Header, operation string) error {
	header.Set(HeaderSession, session(operation))
	token, err := c.token()
	if err != nil {
		return fmt.Errorf("%s: bearer token: %w", operation, err)
	}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return nil
}

// streamURL is where a stream into a pod is opened.
func (c *Client) streamURL(uid string, kind StreamKind) (*url.URL, error) {
	return url.Parse(c.base + PodStreamPath(uid, kind))
}

// bodyConn is an upgraded answer's body as the connection that SPDY wants; of the
// rest of one it uses nothing but to say who the peer is.
type bodyConn struct{ io.ReadWriteCloser }

func (*bodyConn) LocalAddr() net.Addr              { return &net.UnixAddr{Net: "unix"} }
func (*bodyConn) RemoteAddr() net.Addr             { return &net.UnixAddr{Net: "unix"} }
func (*bodyConn) SetDeadline(time.Time) error      { return nil }
func (*bodyConn) SetReadDeadline(time.Time) error  { return nil }
func (*bodyConn) SetWriteDeadline(time.Time) error { return nil }
