// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Kind is what is wrong.
type Kind string

// What can be wrong.
const (
	// None passes everything on.
	None Kind = "none"
	// Refuse is a called one that does not run: nothing listens, and open connections are reset.
	Refuse Kind = "refuse"
	// Stall is a network that loses every packet: nothing passes. What was under way arrives when it is over.
	Stall Kind = "stall"
	// Delay has everything arrive late.
	Delay Kind = "delay"
	// Cut resets each connection somewhere in the next answer.
	Cut Kind = "cut"
	// Deaf is a half-open connection: the called one has lost all that are open now, and the callers are not told.
	Deaf Kind = "deaf"
	// Mute is the other half: the callers have lost all that are open now, and the called one is not told.
	Mute Kind = "mute"
)

// Kinds are all that disturb.
func Kinds() []Kind { return []Kind{Refuse, Stall, Delay, Cut, Deaf, Mute} }

const (
	// maxDelay bounds by how much one piece is late, maxCut after how many bytes an answer is cut.
	maxDelay = 700 * time.Millisecond
	maxCut   = 8 << 10
	// piece is how much is passed on at once.
	piece       = 16 << 10
	dialTimeout = 5 * time.Second
)

// Config describes a Proxy.
type Config struct {
	// Listen listens where callers call. It is called again after Refuse.
	Listen func(context.Context) (net.Listener, error)
	// Dial connects to whom they call.
	Dial func(context.Context) (net.Conn, error)
	// Seed is what delays and cuts follow from.
	Seed uint64
}

// Proxy passes connections on. Its methods may be called from several goroutines, but Impose only from one.
type Proxy struct {
	config  Config
	ctx     context.Context //nolint:containedctx // the proxy's own life, which connections share
	stop    context.CancelFunc
	running sync.WaitGroup

	mu          sync.Mutex
	random      *rand.Rand
	listener    net.Listener
	connections map[*connection]struct{}
	now         state
}

// state is what is wrong now.
type state struct {
	kind Kind
	// number tells one time of the same kind from another.
	number int
	// over is closed when another state has come.
	over chan struct{}
}

// Start returns a proxy that passes everything on. Close ends it.
func Start(ctx context.Context, config Config) (*Proxy, error) {
	p := &Proxy{
		config: config, connections: map[*connection]struct{}{}, now: state{kind: None, over: make(chan struct{})},
		random: rand.New(rand.NewPCG(config.Seed, 0)), //nolint:gosec // it has to be repeatable
	}
	p.ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := p.listen(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *Proxy) listen(ctx context.Context) error {
	listener, err := p.config.Listen(ctx)
	if err != nil {
		return fmt.Errorf("listen for callers: %w", err)
	}
	p.mu.Lock()
	p.listener = listener
	p.mu.Unlock()
	p.running.Go(func() { p.accept(listener) }) //nolint:contextcheck // connections share the life of the proxy
	return nil
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		near, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			wait(p.ctx, nil, 100*time.Millisecond) // out of descriptors, most likely
			continue
		}
		p.running.Go(func() { p.serve(near) })
	}
}

// serve passes one connection on until it ends.
func (p *Proxy) serve(near net.Conn) {
	ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
	far, err := p.config.Dial(ctx)
	cancel()
	if err != nil {
		reset(near)
		return
	}
	c := &connection{proxy: p, near: near, far: far}
	if !p.add(c) {
		c.reset()
		return
	}
	c.run()
	p.mu.Lock()
	delete(p.connections, c)
	p.mu.Unlock()
}

// add takes a connection in, unless nothing listens any more.
func (p *Proxy) add(c *connection) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return false
	}
	p.connections[c] = struct{}{}
	return true
}

// Impose has something else be wrong from now on; None ends it.
func (p *Proxy) Impose(ctx context.Context, kind Kind) error {
	p.mu.Lock()
	close(p.now.over)
	p.now = state{kind: kind, number: p.now.number + 1, over: make(chan struct{})}
	open := make([]*connection, 0, len(p.connections))
	for c := range p.connections {
		open = append(open, c)
	}
	listener := p.listener
	if kind == Refuse {
		p.listener = nil
	}
	p.mu.Unlock()
	switch kind {
	case Refuse:
		if listener != nil {
			_ = listener.Close()
		}
		for _, c := range open {
			c.reset()
		}
		return nil
	case Deaf, Mute:
		for _, c := range open {
			c.sever(kind)
		}
	case None, Stall, Delay, Cut:
	}
	if listener == nil {
		return p.listen(ctx)
	}
	return nil
}

// Close ends all connections and returns when nothing runs any more.
func (p *Proxy) Close() {
	p.stop()
	p.mu.Lock()
	listener := p.listener
	p.listener = nil
	for c := range p.connections {
		c.reset()
	}
	p.mu.Unlock()
	if listener != nil {
		_ = listener.Close()
	}
	p.running.Wait()
}

func (p *Proxy) current() state {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *Proxy) upTo(limit int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random.Int64N(limit)
}

// wait waits, or less when over or ctx is done; over may be nil.
func wait(ctx context.Context, over <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-over:
	case <-ctx.Done():
	}
}

// reset closes a connection as a process that was killed does.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
