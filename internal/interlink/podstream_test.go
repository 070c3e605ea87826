// SPDX-License-Identifier: Apache-2.0

package interlink_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
)

const patience = 10 * time.Second

// streamClients are clients of a cluster by every protocol and transport.
func streamClients(t *testing.T, do func(t *testing.T, cluster *interlinktest.Cluster, client *interlink.Client)) {
	t.Helper()
	for _, kind := range []string{"websocket", "spdy", "unix"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			socket := ""
			if kind == "unix" {
				socket = filepath.Join(t.TempDir(), "s")
			}
			cluster := interlinktest.NewCluster(t, socket)
			cluster.NoWebSocket.Store(kind == "spdy")
			base := cluster.URL
			if kind == "unix" {
				base = "unix://" + socket
			}
			transport, err := interlink.NewTransport(base, nil)
			require.NoError(t, err)
			client, err := interlink.NewClient(interlink.ClientConfig{
				BaseURL: base, HTTP: &http.Client{Transport: transport},
				Token: func() (string, error) { return "secret", nil },
			})
			require.NoError(t, err)
			do(t, cluster, client)
		})
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	streamClients(t, func(t *testing.T, cluster *interlinktest.Cluster, client *interlink.Client) {
		t.Helper()
		var out, failure bytes.Buffer
		err := client.Exec(t.Context(), &interlink.Terminal{
			PodUID: "u", Container: "main", Command: []string{"cat"}, Stdin: strings.NewReader("hello"), Stdout: &out,
		})
		require.NoError(t, err)
		assert.Equal(t, "hello", out.String(), "the end of the input arrives")
		err = client.Exec(t.Context(), &interlink.Terminal{
			PodUID: "u", Container: "main", Command: []string{"exit", "42"}, Stdout: &out, Stderr: &failure,
		})
		var code exec.CodeExitError
		require.ErrorAs(t, err, &code)
		assert.Equal(t, 42, code.Code)
		assert.Equal(t, "about to fail\n", failure.String())
		last := cluster.Streams()[len(cluster.Streams())-1]
		assert.Equal(t, interlink.PodStreamPath("u", interlink.StreamExec), last.Path)
		assert.Equal(t, []string{"exit", "42"}, last.Query["command"])
		assert.Equal(t, "main", last.Query.Get("container"))
		assert.Equal(t, "Bearer secret", last.Header.Get("Authorization"))
		assert.Regexp(t, "^Exec#", last.Header.Get(interlink.HeaderSession))
	})
}

// sizes is a terminal that is resized as told.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestResize(t *testing.T) {
	t.Parallel()
	streamClients(t, func(t *testing.T, _ *interlinktest.Cluster, client *interlink.Client) {
		t.Helper()
		queue := make(sizes, 2)
		defer close(queue)
		queue <- remotecommand.TerminalSize{Width: 80, Height: 24}
		queue <- remotecommand.TerminalSize{Width: 120, Height: 50}
		var out bytes.Buffer
		err := client.Exec(t.Context(), &interlink.Terminal{
			PodUID: "u", Command: []string{"sizes", "2"}, Stdin: strings.NewReader(""), Stdout: &out, TTY: true, Sizes: queue,
		})
		require.NoError(t, err)
		assert.Equal(t, "80x24\n120x50\n", out.String())
	})
}

func TestLargeInputAndOutput(t *testing.T) {
	t.Parallel()
	streamClients(t, func(t *testing.T, _ *interlinktest.Cluster, client *interlink.Client) {
		t.Helper()
		const size = 8 << 20
		content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		sum := sha256.Sum256(content)
		var out bytes.Buffer
		require.NoError(t, client.Exec(t.Context(), &interlink.Terminal{
			PodUID: "u", Command: []string{"sum"}, Stdin: bytes.NewReader(content), Stdout: &out,
		}))
		assert.Equal(t, fmt.Sprintf("%d %s\n", size, hex.EncodeToString(sum[:])), out.String())
		counted := &counter{}
		require.NoError(t, client.Exec(t.Context(), &interlink.Terminal{PodUID: "u", Command: []string{"flood", fmt.Sprint(size)}, Stdout: counted}))
		assert.Equal(t, size, counted.size)
	})
}

type counter struct{ size int }

func (c *counter) Write(p []byte) (int, error) {
	c.size += len(p)
	return len(p), nil
}

func TestHangUpClosesTheConnection(t *testing.T) {
	t.Parallel()
	streamClients(t, func(t *testing.T, cluster *interlinktest.Cluster, client *interlink.Client) {
		t.Helper()
		ctx, hangUp := context.WithCancel(t.Context())
		begun, out := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := client.Exec(ctx, &interlink.Terminal{PodUID: "u", Command: []string{"wait"}, Stdout: out})
			_ = out.CloseWithError(err)
			done <- err
		}()
		_, err := io.ReadFull(begun, make([]byte, len("waiting\n")))
		require.NoError(t, err)
		hangUp()
		require.ErrorIs(t, <-done, context.Canceled)
		require.Eventually(t, func() bool { return cluster.Open() == 0 && cluster.Running() == 0 }, patience, time.Millisecond)
	})
}

// endless is an input that has always more.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestHangUpEndsWhatDoesNotRead: what is on its way to a command that does not read
// fills all buffers, and must not keep the caller from hanging up.
func TestHangUpEndsWhatDoesNotRead(t *testing.T) {
	t.Parallel()
	streamClients(t, func(t *testing.T, _ *interlinktest.Cluster, client *interlink.Client) {
		t.Helper()
		ctx, hangUp := context.WithCancel(t.Context())
		begun, out := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := client.Exec(ctx, &interlink.Terminal{PodUID: "u", Command: []string{"wait"}, Stdin: endless{}, Stdout: out})
			_ = out.CloseWithError(err)
			done <- err
		}()
		_, err := io.ReadFull(begun, make([]byte, len("waiting\n")))
		require.NoError(t, err)
		<-time.NewTimer(300 * time.Millisecond).C // the buffers fill
		hangUp()
		select {
		case err := <-done:
			require.ErrorIs(t, err, context.Canceled)
		case <-time.NewTimer(patience).C:
			require.Fail(t, "the end waits for what nobody reads")
		}
	})
}

// TestFarEndBreaks: a command whose connection broke has not succeeded.
func TestFarEndBreaks(t *testing.T) {
	t.Parallel()
	streamClients(t, func(t *testing.T, cluster *interlinktest.Cluster, client *interlink.Client) {
		t.Helper()
		begun, out := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := client.Exec(t.Context(), &interlink.Terminal{PodUID: "u", Command: []string{"wait"}, Stdout: out})
			_ = out.CloseWithError(err)
			done <- err
		}()
		_, err := io.ReadFull(begun, make([]byte, len("waiting\n")))
		require.NoError(t, err)
		cluster.HangUp()
		require.ErrorContains(t, <-done, "broke before the command ended")
	})
}

func TestErrorsDoNotTellCommands(t *testing.T) {
	t.Parallel()
	transport, err := interlink.NewTransport("http://127.0.0.1:1", nil)
	require.NoError(t, err)
	client, err := interlink.NewClient(interlink.ClientConfig{BaseURL: "http://127.0.0.1:1", HTTP: &http.Client{Transport: transport}})
	require.NoError(t, err)
	err = client.Exec(t.Context(), &interlink.Terminal{PodUID: "u", Command: []string{"login", "--password=secret"}, Stdout: io.Discard})
	require.ErrorContains(t, err, "connection refused")
	assert.NotContains(t, err.Error(), "secret", "errors are logged")
}

// TestRedirectsAreNotFollowed: the token is for this far end only.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(elsewhere.Close)
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(server.Close)
	client, err := interlink.NewClient(interlink.ClientConfig{
		BaseURL: server.URL, HTTP: &http.Client{}, Token: func() (string, error) { return "secret", nil },
	})
	require.NoError(t, err)
	require.Error(t, client.Exec(t.Context(), &interlink.Terminal{PodUID: "u", Command: []string{"cat"}, Stdout: io.Discard}))
	assert.Zero(t, asked.Load())
}

func TestStreamRefused(t *testing.T) {
	t.Parallel()
	streamClients(t, func(t *testing.T, cluster *interlinktest.Cluster, client *interlink.Client) {
		t.Helper()
		text := "pods is forbidden"
		cluster.Refuse.Store(&text)
		err := client.Attach(t.Context(), &interlink.Terminal{PodUID: "u", Stdout: io.Discard})
		require.ErrorContains(t, err, text)
		forwarder := client.Forwarder("u")
		local, remote := net.Pipe()
		defer func() { _, _ = local.Close(), remote.Close() }()
		require.ErrorContains(t, forwarder.Forward(t.Context(), 7, remote), text)
		require.NoError(t, forwarder.Close())
	})
}

func TestPortForward(t *testing.T) {
	t.Parallel()
	streamClients(t, func(t *testing.T, cluster *interlinktest.Cluster, client *interlink.Client) {
		t.Helper()
		forwarder := client.Forwarder("u")
		var running sync.WaitGroup
		for i := range 5 {
			running.Go(func() {
				local, remote := net.Pipe()
				var forwarding sync.WaitGroup
				forwarding.Go(func() {
					assert.NoError(t, forwarder.Forward(t.Context(), 7, halfClosing{remote}))
					_ = remote.Close()
				})
				line := fmt.Sprintf("connection %d\n", i)
				_, err := io.WriteString(local, line)
				assert.NoError(t, err)
				echo := make([]byte, len(line))
				_, err = io.ReadFull(local, echo)
				assert.NoError(t, err)
				assert.Equal(t, line, string(echo))
				_ = local.Close()
				forwarding.Wait()
			})
		}
		running.Wait()
		upgraded := 0
		for _, stream := range cluster.Streams() {
			if !cluster.NoWebSocket.Load() || stream.Header.Get("Upgrade") == "SPDY/3.1" {
				upgraded++
			}
		}
		assert.Equal(t, 1, upgraded, "all share one connection")
		local, remote := net.Pipe()
		defer func() { _, _ = local.Close(), remote.Close() }()
		require.ErrorContains(t, forwarder.Forward(t.Context(), 9, remote), "connection refused")
		require.NoError(t, forwarder.Close())
		require.Eventually(t, func() bool { return cluster.Open() <= 1 }, patience, time.Millisecond, "what is left was refused WebSocket")
		require.ErrorIs(t, forwarder.Forward(t.Context(), 7, remote), net.ErrClosed)
	})
}

// halfClosing ends its input without an error when its peer closes, as TCP does.
type halfClosing struct{ net.Conn }

func (h halfClosing) Write(p []byte) (int, error) {
	n, err := h.Conn.Write(p)
	if err != nil {
		return len(p), nil //nolint:nilerr // the peer reads no more
	}
	return n, nil
}

func TestPathsOfStreams(t *testing.T) {
	t.Parallel()
	for _, kind := range interlink.StreamKinds() {
		uid, parsed, ok := interlink.ParsePodStreamPath(interlink.PodStreamPath("a-b", kind))
		require.True(t, ok)
		assert.Equal(t, "a-b", uid)
		assert.Equal(t, kind, parsed)
		assert.NotEmpty(t, kind.Extension())
	}
	for _, path := range []string{"/status", "/caas/v1/pods/", "/caas/v1/pods/u", "/caas/v1/pods//exec", "/caas/v1/pods/u/log", "/caas/v1/pods/u/exec/x"} {
		_, _, ok := interlink.ParsePodStreamPath(path)
		assert.False(t, ok, path)
	}
}
