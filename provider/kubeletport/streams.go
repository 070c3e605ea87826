// SPDX-License-Identifier: Apache-2.0

package kubeletport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/mux"
	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/tunnel"
)

const (
	// streamIdle is a kubelet's own limit for streams in which nothing moves. Callers
	// send pings, so sessions that only wait live on.
	streamIdle = 4 * time.Hour
	// streamCreation is how long a caller may take to open its streams.
	streamCreation = 30 * time.Second
)

// Kind is what a connection into a pod is for.
type Kind string

// The kinds of connections.
const (
	Exec        Kind = "exec"
	Attach      Kind = "attach"
	PortForward Kind = "port-forward"
)

// ErrNotOffered is what Streams.Usable returns, with a sentence around it, for what
// cannot be done here at all.
var ErrNotOffered = errors.New("not offered")

// Terminal is a caller's side of exec and attach.
type Terminal struct {
	Namespace, Pod, Container string
	// Command is empty for attach.
	Command []string
	api.AttachIO
	// WantStdin and so on say what the caller asked for; streams for the rest may
	// exist all the same.
	WantStdin, WantStdout, WantStderr bool
}

// Streams opens connections into pods. Methods MAY be called by many goroutines at
// once, and MUST return soon after ctx is done.
type Streams interface {
	// Usable returns nil when such a connection can be opened, else ErrNotOffered or
	// an error of the virtual-kubelet library's kinds; container is "" for port-forward.
	Usable(ctx context.Context, kind Kind, namespace, pod, container string) error
	// Run runs a command. An exit code other than 0 is an ExitError of k8s.io/utils/exec.
	Run(ctx context.Context, terminal *Terminal) error
	// Attach connects to the main process.
	Attach(ctx context.Context, terminal *Terminal) error
	// Forward returns what connects one stream to one port, and what ends them all.
	Forward(ctx context.Context, namespace, pod string) (port func(context.Context, int32, io.ReadWriteCloser) error, end func(), err error)
}

// streamRoutes serves the connections into pods, and everything else by next.
func streamRoutes(streams Streams, limit int, next http.Handler) http.Handler {
	if streams == nil {
		return withoutStreams(next)
	}
	s := server{streams: streams, open: make(chan struct{}, limit)}
	router := mux.NewRouter()
	methods := []string{http.MethodGet, http.MethodPost}
	router.HandleFunc("/exec/{namespace}/{pod}/{container}", s.terminal(Exec)).Methods(methods...)
	router.HandleFunc("/attach/{namespace}/{pod}/{container}", s.terminal(Attach)).Methods(methods...)
	router.HandleFunc("/portForward/{namespace}/{pod}", s.forward).Methods(methods...)
	router.NotFoundHandler = next
	router.MethodNotAllowedHandler = next
	return router
}

// server serves connections into pods. open has one element for each of them that is
// open, and one for each connection to a port.
type server struct {
	streams Streams
	open    chan struct{}
}

// enter takes a place for one more; there is no waiting, because somebody sits before it.
func (s server) enter() (leave func(), err error) {
	select {
	case s.open <- struct{}{}:
		return func() { <-s.open }, nil
	default:
		return nil, fmt.Errorf("%w: %d connections into pods of this virtual node are open; close some and try again", errTooMany, cap(s.open))
	}
}

var errTooMany = errors.New("no more connections are allowed")

// terminal serves exec and attach. A caller who hangs up ends what runs behind it,
// whatever its protocol.
func (s server) terminal(kind Kind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		vars := mux.Vars(r)
		ctx, hangUp := context.WithCancel(r.Context())
		defer hangUp()
		leave, err := s.admit(ctx, kind, vars)
		if err != nil {
			refuse(ctx, w, err)
			return
		}
		defer leave()
		// The library's context ends with ours, and when a SPDY caller says goodbye.
		open := func(ctx context.Context, terminal *Terminal) error {
			terminal.WantStdin = r.FormValue("input") == "1"
			terminal.WantStdout = r.FormValue("output") == "1"
			terminal.WantStderr = r.FormValue("error") == "1"
			if kind == Attach {
				return s.streams.Attach(ctx, terminal)
			}
			return s.streams.Run(ctx, terminal)
		}
		timing := []api.ContainerExecHandlerOption{
			api.WithExecStreamIdleTimeout(streamIdle), api.WithExecStreamCreationTimeout(streamCreation),
		}
		serve := api.HandleContainerAttach(func(ctx context.Context, namespace, pod, container string, streams api.AttachIO) error {
			return open(ctx, &Terminal{Namespace: namespace, Pod: pod, Container: container, AttachIO: streams})
		}, timing...)
		if kind == Exec {
			serve = api.HandleContainerExec(func(ctx context.Context, namespace, pod, container string, command []string, streams api.AttachIO) error {
				return open(ctx, &Terminal{Namespace: namespace, Pod: pod, Container: container, Command: command, AttachIO: streams})
			}, timing...)
		}
		serve(&watchedWriter{ResponseWriter: w, hangUp: hangUp}, r.WithContext(ctx))
	}
}

// admit takes a place for a connection that can be opened.
func (s server) admit(ctx context.Context, kind Kind, vars map[string]string) (leave func(), err error) {
	if err := s.streams.Usable(ctx, kind, vars["namespace"], vars["pod"], vars["container"]); err != nil {
		return nil, err
	}
	return s.enter()
}

// forward serves port-forward: many connections to ports, for as long as the caller
// stays.
func (s server) forward(w http.ResponseWriter, r *http.Request) {
	vars := mux.Vars(r)
	ctx, hangUp := context.WithCancel(r.Context())
	defer hangUp()
	leave, err := s.admit(ctx, PortForward, vars)
	if err != nil {
		refuse(ctx, w, err)
		return
	}
	defer leave()
	port, end, err := s.streams.Forward(ctx, vars["namespace"], vars["pod"])
	if err != nil {
		refuse(ctx, w, err)
		return
	}
	defer end()
	serve := api.HandlePortForward(func(_ context.Context, _, _ string, number int32, stream io.ReadWriteCloser) error {
		leave, err := s.enter()
		if err != nil {
			return err
		}
		defer leave()
		return port(ctx, number, stream)
	}, api.WithPortForwardStreamIdleTimeout(streamIdle), api.WithPortForwardCreationTimeout(streamCreation))
	serve(&watchedWriter{ResponseWriter: w, hangUp: hangUp}, r.WithContext(ctx))
}

func refuse(ctx context.Context, w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrNotOffered):
		code = http.StatusNotImplemented
	case errors.Is(err, errTooMany):
		code = http.StatusTooManyRequests
	case errdefs.IsNotFound(err):
		code = http.StatusNotFound
	case errdefs.IsInvalidInput(err):
		code = http.StatusBadRequest
	default:
		logging.From(ctx).WarnContext(ctx, "connection into a pod not opened", "error", err)
	}
	http.Error(w, err.Error(), code)
}

// watchedWriter tells when a caller whose connection was taken over hangs up: the
// library notices that for some protocols only.
type watchedWriter struct {
	http.ResponseWriter

	hangUp func()
}

// Unwrap lets http.ResponseController reach what is below.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w *watchedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	held := io.LimitReader(buffer.Reader, int64(buffer.Reader.Buffered()))
	// Nobody is left to be told when a caller hangs up, whether or not what he has sent
	// before is read.
	watched := tunnel.Gentle(tunnel.Watch(conn, w.hangUp))
	// net/http may have read ahead; what it holds comes first.
	return watched, bufio.NewReadWriter(bufio.NewReader(io.MultiReader(held, watched)), bufio.NewWriter(watched)), nil
}
