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
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

const (
	// streamPings is how often SPDY asks whether the far end is there; WebSocket does
	// so by itself.
	streamPings = 5 * time.Second
	// upgradeTimeout bounds the time until a connection is upgraded: the far end's
	// cluster has to reach the pod's node.
	upgradeTimeout = time.Minute
)

// dialer upgrades one connection to the far end, with the client's own identity.
// It is the transport and the upgrader of client-go's SPDY side, and the source of
// the configuration of its WebSocket side.
type dialer struct {
	client *Client
	// ctx bounds the upgrade where a library has no context of its own.
	ctx  context.Context //nolint:containedctx // client-go's dialers take none
	kind StreamKind
	// taken is the connection of the answer that upgraded; client-go closes an
	// answer's body.
	taken io.ReadWriteCloser
}

// RoundTrip implements http.RoundTripper for SPDY: it asks for the upgrade.
func (d *dialer) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(d.ctx)
	timer := time.AfterFunc(upgradeTimeout, func() { cancel(errNoUpgrade) })
	defer timer.Stop()
	request := r.Clone(ctx)
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "SPDY/3.1")
	if err := d.client.sign(request.Header, string(d.kind)); err != nil {
		cancel(nil)
		return nil, err
	}
	answer, err := d.client.trace(d.client.streams.Transport).RoundTrip(request)
	if err != nil {
		cancel(nil)
		return nil, causeOf(ctx, err)
	}
	context.AfterFunc(d.ctx, func() { cancel(nil) })
	if body, ok := answer.Body.(io.ReadWriteCloser); ok && answer.StatusCode == http.StatusSwitchingProtocols {
		d.taken, answer.Body = body, http.NoBody
	}
	return answer, nil
}

var errNoUpgrade = errors.New("the far end did not open the stream in time")

// NewConnection implements httpstream.UpgradeRoundTripper.
func (d *dialer) NewConnection(answer *http.Response) (httpstream.Connection, error) { //nolint:ireturn // client-go's own seam
	if answer.StatusCode != http.StatusSwitchingProtocols {
		defer func() { _ = answer.Body.Close() }()
		return nil, statusError(string(d.kind), answer)
	}
	if d.taken == nil {
		return nil, errors.New("the connection cannot be written to")
	}
	return spdy.NewClientConnectionWithPings(&bodyConn{ReadWriteCloser: d.taken}, streamPings)
}

// config makes client-go's WebSocket side connect as the client does.
func (d *dialer) config() *rest.Config {
	return &rest.Config{
		Host: d.client.base,
		WrapTransport: func(next http.RoundTripper) http.RoundTripper {
			if inner, ok := next.(*websocket.RoundTripper); ok {
				inner.TLSConfig = d.client.tls()
			}
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				ctx, cancel := context.WithTimeoutCause(d.ctx, upgradeTimeout, errNoUpgrade)
				defer cancel() // it bounds the handshake only
				request := r.Clone(ctx)
				if err := d.client.sign(request.Header, string(d.kind)); err != nil {
					return nil, err
				}
				answer, err := d.client.trace(next).RoundTrip(request)
				if err != nil {
					return nil, causeOf(ctx, err)
				}
				return answer, nil
			})
		},
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

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

// bodyConn is an upgraded answer's body as the connection that SPDY wants; of the
// rest of one it uses nothing but to say who the peer is.
type bodyConn struct{ io.ReadWriteCloser }

func (*bodyConn) LocalAddr() net.Addr              { return &net.UnixAddr{Net: "unix"} }
func (*bodyConn) RemoteAddr() net.Addr             { return &net.UnixAddr{Net: "unix"} }
func (*bodyConn) SetDeadline(time.Time) error      { return nil }
func (*bodyConn) SetReadDeadline(time.Time) error  { return nil }
func (*bodyConn) SetWriteDeadline(time.Time) error { return nil }
