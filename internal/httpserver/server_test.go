// SPDX-License-Identifier: Apache-2.0

package httpserver_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/programtest"
)

// run starts a server and returns its base URL; stop ends it and returns what Run returned.
func run(t *testing.T, cfg httpserver.Config) (base string, stop func() error) {
	t.Helper()
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	server, err := httpserver.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	return "http://" + server.Addr().String(), stop
}

func get(t *testing.T, client *http.Client, method, url string, body io.Reader) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	require.NoError(t, err)
	answer, err := client.Do(request)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		code, text := httpserver.BodyError(err)
		http.Error(w, text, code)
		return
	}
	_, _ = w.Write(body)
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	base, _ := run(t, httpserver.Config{Handler: http.HandlerFunc(echo), MaxBody: 10})
	for name, test := range map[string]struct {
		body io.Reader
		code int
	}{
		"fits":                {strings.NewReader("0123456789"), http.StatusOK},
		"declared too large":  {strings.NewReader("0123456789a"), http.StatusRequestEntityTooLarge},
		"turns out too large": {io.MultiReader(strings.NewReader("0123456789a")), http.StatusRequestEntityTooLarge},
		"none":                {nil, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, text := get(t, plain, http.MethodGet, base, test.body)
			assert.Equal(t, test.code, code)
			if code != http.StatusOK {
				assert.Equal(t, "request body is larger than 10 bytes\n", text)
			}
		})
	}
}

func TestSlowBodyIsRefusedAndLongAnswersAreNot(t *testing.T) {
	t.Parallel()
	base, _ := run(t, httpserver.Config{
		BodyTimeout:  time.Second, // a busy machine may take half of it for a body that is whole
		WriteTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				code, text := httpserver.BodyError(err)
				http.Error(w, text, code)
				return
			}
			_, _ = io.WriteString(w, "begin ")
			select {
			case <-time.NewTimer(2 * time.Second).C:
				_, _ = io.WriteString(w, "end")
			case <-r.Context().Done():
			}
		}),
	})
	code, text := get(t, plain, http.MethodPost, base, strings.NewReader("whole"))
	assert.Equal(t, http.StatusOK, code)
	assert.Equal(t, "begin end", text, "the deadline of the body must not cancel the request")

	conn := dial(t, strings.TrimPrefix(base, "http://"))
	defer func() { _ = conn.Close() }()
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(answer), "408 Request Timeout")
	assert.Contains(t, string(answer), "request body took too long")
}

func TestSlowHeaderIsCut(t *testing.T) {
	t.Parallel()
	base, _ := run(t, httpserver.Config{Handler: http.HandlerFunc(echo), HeaderTimeout: 100 * time.Millisecond})
	conn := dial(t, strings.TrimPrefix(base, "http://"))
	defer func() { _ = conn.Close() }()
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err = io.ReadAll(conn)
	assert.NoError(t, err, "the server must close the connection")
}

func TestReaderThatStopsIsCut(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		patience time.Duration
		cut      bool
	}{
		"default":        {0, true},
		"patient answer": {time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			written := make(chan error, 1)
			base, _ := run(t, httpserver.Config{
				WriteTimeout: 100 * time.Millisecond,
				GracePeriod:  100 * time.Millisecond,
				Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if test.patience > 0 {
						assert.True(t, httpserver.AllowSlowReader(w, test.patience))
					}
					_, err := w.Write(make([]byte, 64<<20))
					written <- err
				}),
			})
			conn := dial(t, strings.TrimPrefix(base, "http://"))
			defer func() { _ = conn.Close() }()
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			patience := time.Second // to see that nothing happens
			if test.cut {
				patience = 30 * time.Second
			}
			select {
			case err := <-written:
				assert.True(t, test.cut)
				assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
			case <-time.NewTimer(patience).C:
				assert.False(t, test.cut, "the write must end")
				_ = conn.Close()
				<-written
			}
		})
	}
}

func TestPanicIsAnsweredAndLoggedWithoutItsValue(t *testing.T) {
	t.Parallel()
	var logged programtest.Output
	logger, err := logging.New(&logged, logging.Options{Level: "info", Format: "text"})
	require.NoError(t, err)
	server, err := httpserver.New(httpserver.Config{Address: "127.0.0.1:0", Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/late" {
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
			}
			if r.URL.Path == "/nil" {
				var none *http.Request
				_ = none.URL.Path
			}
			panic("secret-token") //nolint:forbidigo // panics are under test
		})})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(logging.Into(t.Context(), logger))
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	base := "http://" + server.Addr().String()

	code, text := get(t, plain, http.MethodGet, base+"/early", nil)
	assert.Equal(t, http.StatusInternalServerError, code)
	assert.Equal(t, "internal error\n", text)
	code, _ = get(t, plain, http.MethodGet, base+"/nil", nil)
	assert.Equal(t, http.StatusInternalServerError, code)

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/late", nil)
	require.NoError(t, err)
	answer, err := plain.Do(request)
	require.NoError(t, err)
	_, err = io.ReadAll(answer.Body)
	require.Error(t, err, "half an answer must not look whole")
	_ = answer.Body.Close()

	cancel()
	require.NoError(t, <-ended)
	assert.Contains(t, logged.String(), "request handler panicked")
	assert.Contains(t, logged.String(), "nil pointer dereference")
	assert.NotContains(t, logged.String(), "secret-token")
}

func TestShutdownFinishesRequestsAndEndsStreams(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{}, 2)
	base, stop := run(t, httpserver.Config{GracePeriod: 10 * time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stream" {
				ctx, cancel := httpserver.Stream(r.Context())
				defer cancel()
				_ = http.NewResponseController(w).Flush()
				begun <- struct{}{}
				<-ctx.Done()
				_, _ = io.WriteString(w, "bye")
				return
			}
			begun <- struct{}{}
			select {
			case <-time.NewTimer(300 * time.Millisecond).C:
				_, _ = io.WriteString(w, "done")
			case <-r.Context().Done():
				_, _ = io.WriteString(w, "cancelled")
			}
		})})
	answers := make(chan string, 2)
	for _, path := range []string{"/work", "/stream"} {
		go func() {
			_, text := get(t, plain, http.MethodGet, base+path, nil)
			answers <- text
		}()
	}
	<-begun
	<-begun
	start := time.Now()
	require.NoError(t, stop())
	assert.Less(t, time.Since(start), 5*time.Second)
	assert.ElementsMatch(t, []string{"done", "bye"}, []string{<-answers, <-answers})
}

func TestShutdownCancelsWhatOutlivesTheGracePeriod(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	base, stop := run(t, httpserver.Config{GracePeriod: 50 * time.Millisecond, Handler: http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			<-r.Context().Done()
		})})
	go func() {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base, nil)
		if !assert.NoError(t, err) {
			return
		}
		if answer, err := plain.Do(request); err == nil {
			_ = answer.Body.Close()
		}
	}()
	<-begun
	require.NoError(t, stop())
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.sock")
	_, stop := run(t, httpserver.Config{Address: "unix://" + path, Handler: http.HandlerFunc(echo)})
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o660), info.Mode().Perm())
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	code, text := get(t, client, http.MethodPost, "http://unix/x", strings.NewReader("hello"))
	assert.Equal(t, http.StatusOK, code)
	assert.Equal(t, "hello", text)

	_, err = httpserver.New(httpserver.Config{Address: "unix://" + path, Handler: http.HandlerFunc(echo)})
	require.ErrorContains(t, err, "another process is serving it")
	require.NoError(t, stop())
	assert.NoFileExists(t, path)

	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	require.NoError(t, err)
	left.SetUnlinkOnClose(false)
	require.NoError(t, left.Close())
	server, err := httpserver.New(httpserver.Config{Address: "unix://" + path, Handler: http.HandlerFunc(echo)})
	require.NoError(t, err, "a socket that nobody serves is removed")
	require.NoError(t, server.Close())

	require.NoError(t, os.WriteFile(path, []byte("data"), 0o600))
	_, err = httpserver.New(httpserver.Config{Address: "unix://" + path, Handler: http.HandlerFunc(echo)})
	require.ErrorContains(t, err, "is no socket")
	assert.FileExists(t, path)
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(echo)
	for name, test := range map[string]struct {
		cfg  httpserver.Config
		want string
	}{
		"no handler":        {httpserver.Config{Address: ":0"}, "no handler"},
		"no port":           {httpserver.Config{Address: "localhost", Handler: handler}, "want host:port or unix:///path"},
		"relative socket":   {httpserver.Config{Address: "unix://x", Handler: handler}, "absolute path"},
		"no key":            {httpserver.Config{Address: ":0", Handler: handler, TLS: &httpserver.TLS{CertFile: "x"}}, "are required"},
		"no such file":      {httpserver.Config{Address: ":0", Handler: handler, TLS: &httpserver.TLS{CertFile: "/nope", KeyFile: "/nope"}}, "/nope"},
		"require but no CA": {httpserver.Config{Address: ":0", Handler: handler, TLS: &httpserver.TLS{CertFile: "x", KeyFile: "x", RequireClientCert: true}}, "without a client CA"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := httpserver.New(test.cfg)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestBodyErrorTellsCausesApart(t *testing.T) {
	t.Parallel()
	code, _ := httpserver.BodyError(io.ErrUnexpectedEOF)
	assert.Equal(t, http.StatusBadRequest, code)
	code, _ = httpserver.BodyError(&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded})
	assert.Equal(t, http.StatusRequestTimeout, code)
}

// plain is a client without settings.
var plain = &http.Client{}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(address, "http://"))
	require.NoError(t, err)
	return conn.(*net.TCPConn)
}
