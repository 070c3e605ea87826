// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
	spdytransport "k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// maxForwardError bounds what a far end says of a port that it cannot reach.
const maxForwardError = 4 << 10

// Forwarder carries connections to ports of one pod over one connection to the far
// end, which is opened with the first of them and again when it broke. It may be
// used by many goroutines at once.
type Forwarder struct {
	client *Client
	uid    string

	// opening is taken by whoever looks for the connection or opens it.
	opening chan struct{}
	mu      sync.Mutex
	conn    httpstream.Connection
	hangUp  func()
	closed  bool
	next    int
}

// Forwarder returns a Forwarder for the pod with a UID at its origin.
func (c *Client) Forwarder(uid string) *Forwarder {
	return &Forwarder{client: c, uid: uid, opening: make(chan struct{}, 1)}
}

// Close hangs up.
func (f *Forwarder) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.conn == nil {
		return nil
	}
	f.hangUp()
	_ = f.conn.Close() // it could not say goodbye
	return nil
}

// Forward connects local to a port of the pod, until both sides have said
// everything, either side breaks or ctx is done.
func (f *Forwarder) Forward(ctx context.Context, port int32, local io.ReadWriter) error {
	conn, err := f.connection(ctx)
	if err != nil {
		return fmt.Errorf("port-forward: %w", err)
	}
	streams, err := f.open(conn, port)
	if err != nil {
		return fmt.Errorf("port-forward: %w", err)
	}
	defer streams.close()
	return streams.pass(ctx, local)
}

// connection returns the connection to the far end, opening it when there is none.
func (f *Forwarder) connection(ctx context.Context) (httpstream.Connection, error) { //nolint:ireturn // the library's own seam
	select {
	case f.opening <- struct{}{}:
		defer func() { <-f.opening }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	f.mu.Lock()
	conn, closed := f.conn, f.closed
	f.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	if conn != nil {
		select {
		case <-conn.CloseChan():
		default:
			return conn, nil
		}
	}
	conn, hangUp, err := f.client.dialForward(ctx, f.uid)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		hangUp()
		return nil, net.ErrClosed
	}
	f.conn, f.hangUp = conn, hangUp
	return conn, nil
}

// dialForward opens a connection, and says how it is closed without a word.
func (c *Client) dialForward(ctx context.Context, uid string) (httpstream.Connection, func(), error) { //nolint:ireturn // the library's own seam
	target, err := c.streamURL(uid, StreamPortForward)
	if err != nil {
		return nil, nil, err
	}
	dialer := &dialer{client: c, ctx: ctx, kind: StreamPortForward}
	open := spdytransport.NewDialerForStreaming(spdytransport.NewUpgraderForStreaming(dialer),
		&http.Client{Transport: dialer}, http.MethodPost, target)
	conn, protocol, err := open.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, nil, err
	}
	if protocol != portforward.PortForwardProtocolV1Name {
		dialer.hangUp()
		return nil, nil, fmt.Errorf("the far end speaks %q instead of %q", protocol, portforward.PortForwardProtocolV1Name)
	}
	return conn, dialer.hangUp, nil
}

// pair is the two streams of one forwarded connection.
type pair struct {
	conn         httpstream.Connection
	data, errors httpstream.Stream
}

func (f *Forwarder) open(conn httpstream.Connection, port int32) (*pair, error) {
	f.mu.Lock()
	f.next++
	id := f.next
	f.mu.Unlock()
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(int(port)))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.Itoa(id))
	failures, err := conn.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("open error stream: %w", err)
	}
	_ = failures.Close() // nothing is ever written to it
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(headers)
	if err != nil {
		conn.RemoveStreams(failures)
		return nil, fmt.Errorf("open data stream: %w", err)
	}
	return &pair{conn: conn, data: data, errors: failures}, nil
}

func (p *pair) close() {
	_ = p.data.Reset()
	p.conn.RemoveStreams(p.data, p.errors)
}

// pass copies both ways. What the far end says of an error is the error. A copy
// that waits for local goes on until its owner closes it, which it does after this.
func (p *pair) pass(ctx context.Context, local io.ReadWriter) error {
	failure, sent, received := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(p.errors, maxForwardError))
		if err == nil && len(text) > 0 {
			failure <- errors.New(string(text))
			return
		}
		close(failure)
	}()
	go func() {
		_, err := io.Copy(p.data, local)
		_ = p.data.Close() // the far end has to know that there is no more
		sent <- err
	}()
	go func() {
		_, err := io.Copy(local, p.data)
		received <- err
	}()
	// What the pod says is over when the far end closes; what goes to it may be over before.
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.conn.CloseChan():
			return errors.New("the far end hung up")
		case err := <-sent:
			if err != nil {
				return err
			}
			sent = nil
		case err := <-failure:
			if err != nil {
				return err
			}
			failure = nil
		case err := <-received:
			if failure == nil {
				return err
			}
			return errors.Join(err, p.verdict(ctx, failure))
		}
	}
}

// verdict is what the far end says of the connection after its data.
func (p *pair) verdict(ctx context.Context, failure <-chan error) error {
	select {
	case err := <-failure:
		return err
	case <-p.conn.CloseChan():
		return nil
	case <-ctx.Done():
		return nil
	}
}
