// SPDX-License-Identifier: Apache-2.0

package interlinktest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	apiproxy "k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/client-go/util/exec"

	"github.com/cloudveneto/caas/internal/interlink"
)

// Cluster stands for an API server and a kubelet behind it, as far as streams into
// pods go. Both ends speak Kubernetes' protocols by its own libraries: WebSocket is
// translated to SPDY by the API server, as a real one does, and does not say there
// that the caller has hung up, as a real one does not. Any pod is there, and its
// commands are those of run; its port 7 echoes, others refuse.
//
// It answers at the pod's subresources and at interLink's route, so it can stand
// behind a plugin or be the far end itself: there WebSocket carries SPDY.
type Cluster struct {
	*httptest.Server

	kubelet *httptest.Server
	// NoWebSocket makes it answer 400 to WebSocket, as an old server does.
	NoWebSocket atomic.Bool
	// Refuse, when set, is a message that answers every stream with 403.
	Refuse atomic.Pointer[string]
	open   atomic.Int64
	// running counts the commands.
	running atomic.Int64

	mu       sync.Mutex
	requests []Stream
}

// Stream is one stream that a Cluster was asked for.
type Stream struct {
	Path   string
	Query  url.Values
	Header http.Header
}

// NewCluster starts a cluster, at a unix socket if path is not empty.
func NewCluster(tb testing.TB, path string) *Cluster {
	tb.Helper()
	c := &Cluster{}
	c.kubelet = httptest.NewServer(c.Kubelet())
	tb.Cleanup(c.kubelet.Close)
	router := mux.NewRouter()
	router.HandleFunc("/api/v1/namespaces/{namespace}/pods/{pod}/{kind:exec|attach|portforward}", c.stream)
	router.HandleFunc(interlink.RoutePodStream, c.stream)
	c.Server = httptest.NewUnstartedServer(router)
	if path != "" {
		listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "unix", path)
		if err != nil {
			tb.Fatal(err)
		}
		_ = c.Listener.Close()
		c.Listener = listener
	}
	c.Listener = &countingListener{Listener: c.Listener, open: &c.open}
	c.Start()
	tb.Cleanup(func() {
		c.CloseClientConnections()
		c.Close()
	})
	return c
}

// Open is how many connections are open that peers have not closed.
func (c *Cluster) Open() int64 { return c.open.Load() }

// Running is how many commands run, however they were started.
func (c *Cluster) Running() int64 { return c.running.Load() }

// HangUp closes all connections, as an API server that ends does.
func (c *Cluster) HangUp() {
	if listener, ok := c.Listener.(*countingListener); ok {
		listener.hangUp()
	}
}

// Streams are the streams that were asked for so far.
func (c *Cluster) Streams() []Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// stream answers as the API server.
func (c *Cluster) stream(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.requests = append(c.requests, Stream{Path: r.URL.Path, Query: r.URL.Query(), Header: r.Header.Clone()})
	c.mu.Unlock()
	if text := c.Refuse.Load(); text != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":%q}`, *text)
		return
	}
	websocket := strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
	if websocket && c.NoWebSocket.Load() {
		http.Error(w, "unable to upgrade: SPDY only", http.StatusBadRequest)
		return
	}
	kind := interlink.StreamKind(mux.Vars(r)["kind"])
	query := r.URL.Query()
	is := func(name string) bool { return query.Get(name) == "true" }
	location, err := url.Parse(c.kubelet.URL)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	location.Path = "/" + string(kind)
	location.RawQuery = url.Values{
		"command": query["command"], "input": bit(is("stdin")), "output": bit(is("stdout")), "error": bit(is("stderr")), "tty": bit(is("tty")),
	}.Encode()
	var handler http.Handler = apiproxy.NewUpgradeAwareHandler(location, nil, false, true, responder{})
	switch {
	case websocket && (kind == interlink.StreamPortForward || strings.HasPrefix(r.URL.Path, "/caas/")):
		handler = proxy.NewTunnelingHandler(handler)
	case websocket:
		handler = proxy.NewStreamTranslatorHandler(location, nil, 0, proxy.Options{
			Stdin: is("stdin"), Stdout: is("stdout"), Stderr: is("stderr"), Tty: is("tty"),
		})
	}
	handler.ServeHTTP(w, r)
}

func bit(set bool) []string {
	if set {
		return []string{"1"}
	}
	return nil
}

type responder struct{}

func (responder) Error(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusBadGateway)
}

// Kubelet answers as the kubelet does: at /exec, /attach and /portforward, by SPDY,
// with a kubelet's own limits. It needs nothing else of the Cluster.
func (c *Cluster) Kubelet() http.Handler {
	const long = 4 * time.Hour
	options := []api.ContainerExecHandlerOption{api.WithExecStreamIdleTimeout(long), api.WithExecStreamCreationTimeout(long)}
	router := mux.NewRouter()
	router.HandleFunc("/exec", api.HandleContainerExec(
		func(ctx context.Context, _, _, _ string, command []string, streams api.AttachIO) error {
			c.running.Add(1)
			defer c.running.Add(-1)
			return run(ctx, command, streams)
		}, options...))
	router.HandleFunc("/attach", api.HandleContainerAttach(
		func(ctx context.Context, _, _, _ string, streams api.AttachIO) error {
			c.running.Add(1)
			defer c.running.Add(-1)
			return run(ctx, []string{"cat"}, streams)
		}, options...))
	router.HandleFunc("/portforward", api.HandlePortForward(
		func(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
			if port != 7 {
				return errors.New("connection refused")
			}
			_, err := io.Copy(stream, stream)
			return err
		}, api.WithPortForwardStreamIdleTimeout(long), api.WithPortForwardCreationTimeout(long)))
	return router
}

// run is what the containers' commands do.
func run(ctx context.Context, command []string, streams api.AttachIO) error {
	argument := 0
	if len(command) > 1 {
		argument, _ = strconv.Atoi(command[1])
	}
	switch command[0] {
	case "cat":
		_, err := io.Copy(streams.Stdout(), streams.Stdin())
		return err
	case "exit":
		_, _ = io.WriteString(streams.Stderr(), "about to fail\n")
		return exec.CodeExitError{Err: fmt.Errorf("exit status %d", argument), Code: argument}
	case "sum":
		digest := sha256.New()
		size, err := io.Copy(digest, streams.Stdin())
		_, _ = fmt.Fprintf(streams.Stdout(), "%d %s\n", size, hex.EncodeToString(digest.Sum(nil)))
		return err
	case "flood":
		_, err := io.CopyN(streams.Stdout(), zeros{}, int64(argument))
		return err
	case "sizes":
		for range argument {
			size := <-streams.Resize()
			_, _ = fmt.Fprintf(streams.Stdout(), "%dx%d\n", size.Width, size.Height)
		}
		return nil
	case "wait": // it neither reads nor writes any more
		_, _ = io.WriteString(streams.Stdout(), "waiting\n")
		<-ctx.Done()
		return ctx.Err()
	default:
		return exec.CodeExitError{Err: errors.New("no such command"), Code: 127}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// countingListener counts the connections that peers have not closed.
type countingListener struct {
	net.Listener

	open *atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

func (l *countingListener) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		_ = conn.Close()
	}
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	return &countedConn{Conn: conn, open: l.open}, nil
}

type countedConn struct {
	net.Conn

	open *atomic.Int64
	once sync.Once
}

func (c *countedConn) ended() { c.once.Do(func() { c.open.Add(-1) }) }

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		c.ended()
	}
	return n, err
}

func (c *countedConn) Close() error {
	c.ended()
	return c.Conn.Close()
}
