// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/logging"
)

// Config describes one server. Only Address and Handler are required.
type Config struct {
	// Name appears in logs and errors, for instance "api"; default "http".
	Name string
	// Address is host:port, or unix:///path for a unix socket.
	Address string
	// Handler answers the requests. It MUST end soon after its request's context,
	// and streams MUST take theirs from Stream, or a shutdown takes GracePeriod.
	Handler http.Handler
	// ReusePort shares host:port with other processes that do the same: the kernel
	// spreads new connections among them, and one that ends or starts again takes
	// none of the others' with it. Run listens once Ready says so, since the kernel
	// does not know who can answer.
	ReusePort bool
	// Ready says why requests cannot be answered yet; nil means they always can. Only
	// ReusePort uses it, before it listens.
	Ready func(context.Context) error
	// TLS is nil for plain HTTP.
	TLS *TLS
	// MaxBody is the largest request body in bytes; default 32 MiB, negative for no limit.
	MaxBody int64
	// HeaderTimeout bounds reading a request's header; default 10 s.
	HeaderTimeout time.Duration
	// BodyTimeout bounds reading a request's body; default 60 s.
	BodyTimeout time.Duration
	// WriteTimeout bounds each single write of an answer, so that a stream may last
	// for ever but a client that stopped reading is noticed; default 2 min. A
	// handler changes it for its own answer with AllowSlowReader.
	WriteTimeout time.Duration
	// IdleTimeout closes unused connections; default 2 min.
	IdleTimeout time.Duration
	// GracePeriod bounds how long Run waits for requests in flight; default 20 s.
	GracePeriod time.Duration
}

func (c *Config) complete() error {
	if c.Handler == nil {
		return errors.New("http server: no handler given")
	}
	if c.Name == "" {
		c.Name = "http"
	}
	if c.MaxBody == 0 {
		c.MaxBody = 32 << 20
	}
	for value, fallback := range map[*time.Duration]time.Duration{
		&c.HeaderTimeout: 10 * time.Second,
		&c.BodyTimeout:   time.Minute,
		&c.WriteTimeout:  2 * time.Minute,
		&c.IdleTimeout:   2 * time.Minute,
		&c.GracePeriod:   20 * time.Second,
	} {
		if *value == 0 {
			*value = fallback
		}
	}
	return nil
}

// Server is one listening HTTP server.
type Server struct {
	cfg Config
	// listener is nil before Run if the port is shared.
	listener net.Listener
	address  net.Addr
	http     *http.Server
	draining chan struct{}
	handlers tally
}

// New checks the configuration, loads the certificate and listens. Connections
// wait in the kernel until Run; a server that is never run MUST be closed.
func New(cfg Config) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, draining: make(chan struct{})}
	s.http = &http.Server{
		Handler:           s.guard(cfg.Handler),
		ReadHeaderTimeout: cfg.HeaderTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    64 << 10,
	}
	if cfg.TLS != nil {
		config, err := cfg.TLS.serverConfig()
		if err != nil {
			return nil, fmt.Errorf("%s server: %w", cfg.Name, err)
		}
		s.http.TLSConfig = config
	}
	if err := s.listen(); err != nil {
		return nil, fmt.Errorf("%s server: %w", cfg.Name, err)
	}
	return s, nil
}

func (s *Server) listen() (err error) {
	if s.cfg.ReusePort {
		s.address, err = sharedAddress(s.cfg.Address)
		return err
	}
	if s.listener, err = listen(s.cfg.Address); err != nil {
		return err
	}
	s.address = s.listener.Addr()
	return nil
}

// Addr is where the server listens, with the port that the kernel chose for ":0".
func (s *Server) Addr() net.Addr { return s.address }

// Close stops listening without serving anything; Run does it by itself.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

// Run serves until ctx is done, then ends gracefully: it stops listening, tells
// streams to end (see Stream), waits for requests in flight for at most
// GracePeriod, cancels what is left, and returns nil when every handler has
// returned. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	base = context.WithValue(base, drainingKey{}, s.draining)
	s.http.BaseContext = func(net.Listener) context.Context { return base }
	s.http.ErrorLog = slog.NewLogLogger(connectionLog{logging.From(ctx).Handler()}, slog.LevelWarn)
	if s.cfg.ReusePort {
		if !s.awaitReady(ctx) {
			return nil // it is to end before it was ready
		}
		var err error
		if s.listener, err = listenShared(ctx, s.cfg.Address); err != nil {
			return fmt.Errorf("%s server: %w", s.cfg.Name, err)
		}
	}
	logging.From(ctx).InfoContext(ctx, "server is listening",
		"server", s.cfg.Name, "address", s.Addr().String(), "tls", s.cfg.TLS != nil)

	group, serving := errgroup.WithContext(ctx)
	group.Go(s.serve)
	group.Go(func() error {
		<-serving.Done()
		return s.drain(base, cancel)
	})
	return group.Wait()
}

func (s *Server) serve() error {
	var err error
	if s.cfg.TLS != nil {
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("%s server: %w", s.cfg.Name, err)
}

// drain ends the server; cancel cancels the context of every request.
func (s *Server) drain(ctx context.Context, cancel context.CancelFunc) error {
	close(s.draining)
	ctx, stop := context.WithTimeout(ctx, s.cfg.GracePeriod)
	defer stop()
	shutdown := s.http.Shutdown(ctx)
	// Shutdown does not know of connections that a handler took over.
	handled := s.handlers.none()
	select {
	case <-handled:
	case <-ctx.Done():
		logging.From(ctx).WarnContext(ctx, "requests outlived the grace period", "server", s.cfg.Name)
	}
	cancel()
	if shutdown != nil {
		_ = s.http.Close() // the listener is closed already; only connections are left
	}
	// The contexts are cancelled; a handler that ignores its own is not waited for.
	late := time.NewTimer(5 * time.Second)
	defer late.Stop()
	select {
	case <-handled:
		return nil
	case <-late.C:
		return fmt.Errorf("%s server: a request ignored its end", s.cfg.Name)
	}
}

// tally counts running handlers. Unlike a WaitGroup it allows one more to start
// while somebody waits: a connection may be slow to learn of the shutdown.
type tally struct {
	mu      sync.Mutex
	running int
	waiting chan struct{}
}

func (t *tally) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running++
}

func (t *tally) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if t.running == 0 && t.waiting != nil {
		close(t.waiting)
		t.waiting = nil
	}
}

// none is closed once no handler runs. It is for one waiter.
func (t *tally) none() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	none := make(chan struct{})
	if t.running == 0 {
		close(none)
	} else {
		t.waiting = none
	}
	return none
}

type drainingKey struct{}

// Stream returns a context that ends with the given one of a request, and also when
// the server begins to shut down. Handlers whose answers have no natural end MUST
// use it.
func Stream(request context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(request)
	draining, ok := ctx.Value(drainingKey{}).(chan struct{})
	if !ok {
		return ctx, cancel
	}
	go func() {
		select {
		case <-draining:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// connectionLog passes on what net/http says about connections; what a port
// scanner can cause is for debugging only.
type connectionLog struct{ slog.Handler }

func (h connectionLog) Handle(ctx context.Context, record slog.Record) error {
	if strings.HasPrefix(record.Message, "http: TLS handshake error") {
		record.Level = slog.LevelDebug
		if !h.Enabled(ctx, record.Level) {
			return nil
		}
	}
	text := record.Message
	record.Message = "connection error"
	record.AddAttrs(slog.String("error", text))
	return h.Handler.Handle(ctx, record)
}

// minimumTLS is what every peer of this project speaks.
const minimumTLS = tls.VersionTLS12
