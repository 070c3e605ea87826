// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/cloudveneto/caas/internal/interlink"
)

func TestExecThroughAllHops(t *testing.T) {
	t.Parallel()
	c := startChain(t, 0)
	var out, failure bytes.Buffer
	require.NoError(t, c.exec(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out}, "cat"))
	assert.Equal(t, "hello", out.String())
	err := c.exec(t.Context(), remotecommand.StreamOptions{Stdout: &out, Stderr: &failure}, "exit", "42")
	var code exec.CodeExitError
	require.ErrorAs(t, err, &code)
	assert.Equal(t, 42, code.Code)
	assert.Equal(t, "about to fail\n", failure.String())

	out.Reset()
	options := remotecommand.StreamOptions{Stdin: strings.NewReader("typed"), Stdout: &out}
	require.NoError(t, c.executor("attach", options).StreamWithContext(t.Context(), options))
	assert.Equal(t, "typed", out.String())
}

// terminalSizes is a terminal that is resized as told.
type terminalSizes chan remotecommand.TerminalSize

func (s terminalSizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestResizeThroughAllHops(t *testing.T) {
	t.Parallel()
	c := startChain(t, 0)
	queue := make(terminalSizes, 3)
	defer close(queue)
	for _, width := range []uint16{80, 100, 132} {
		queue <- remotecommand.TerminalSize{Width: width, Height: 24}
	}
	var out bytes.Buffer
	require.NoError(t, c.exec(t.Context(), remotecommand.StreamOptions{
		Stdin: strings.NewReader(""), Stdout: &out, Tty: true, TerminalSizeQueue: queue,
	}, "sizes", "3"))
	assert.Equal(t, "80x24\n100x24\n132x24\n", out.String())
}

func TestMuchDataThroughAllHops(t *testing.T) {
	t.Parallel()
	c := startChain(t, 0)
	const size = 32 << 20
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	sum := sha256.Sum256(content)
	var out bytes.Buffer
	require.NoError(t, c.exec(t.Context(), remotecommand.StreamOptions{Stdin: bytes.NewReader(content), Stdout: &out}, "sum"))
	assert.Equal(t, fmt.Sprintf("%d %s\n", size, hex.EncodeToString(sum[:])), out.String())
	counted := &count{}
	require.NoError(t, c.exec(t.Context(), remotecommand.StreamOptions{Stdout: counted}, "flood", fmt.Sprint(size)))
	assert.Equal(t, size, counted.size)
}

type count struct{ size int }

func (c *count) Write(p []byte) (int, error) {
	c.size += len(p)
	return len(p), nil
}

// TestSlowReaderHoldsTheWriter: what a caller does not read must not pile up in any
// hop. All of them, and the cluster's double, share this process's memory.
//
//nolint:paralleltest // it measures the memory of the process
func TestSlowReaderHoldsTheWriter(t *testing.T) {
	c := startChain(t, 0)
	const size = 512 << 20
	ctx, hangUp := context.WithCancel(t.Context())
	from, to := io.Pipe()
	done := make(chan error, 1)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	go func() {
		err := c.exec(ctx, remotecommand.StreamOptions{Stdout: to}, "flood", fmt.Sprint(size))
		_ = to.CloseWithError(err)
		done <- err
	}()
	_, err := io.ReadFull(from, make([]byte, 1<<20))
	require.NoError(t, err)
	<-time.NewTimer(2 * time.Second).C // all buffers fill
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(128<<20))
	_, err = io.ReadFull(from, make([]byte, 1<<20))
	require.NoError(t, err, "it goes on where it stopped")
	hangUp()
	require.Error(t, <-done)
	require.Eventually(t, func() bool { return c.cluster.Open() == 0 }, chainPatient, time.Millisecond)
}

// waiting runs a command that neither reads nor writes, and returns what hangs up and
// how it ends.
func (c *chain) waiting(run func(context.Context, remotecommand.StreamOptions) error, options remotecommand.StreamOptions) (hangUp func(), done <-chan error) {
	c.t.Helper()
	ctx, hangUp := context.WithCancel(c.t.Context())
	from, to := io.Pipe()
	options.Stdout = to
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, options)
		_ = to.CloseWithError(errors.Join(err, io.EOF))
		ended <- err
	}()
	_, err := io.ReadFull(from, make([]byte, len("waiting\n")))
	require.NoError(c.t, err)
	return hangUp, ended
}

// end waits for a stream that has to end.
func (c *chain) end(done <-chan error) error {
	c.t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.NewTimer(chainPatient).C:
		require.Fail(c.t, "the caller was not told")
		return nil
	}
}

// nothingIsLeft waits until no hop holds anything, and the command has ended.
func (c *chain) nothingIsLeft(since time.Time) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		return c.cluster.Open() == 0 && c.cluster.Running() == 0 && c.sessions() == 0
	}, chainPatient, time.Millisecond)
	c.t.Logf("nothing was left after %s", time.Since(since))
}

// TestHangUpThroughAllHops: a command that neither reads nor writes does not outlive
// its caller, by any protocol that a kubelet is spoken to.
func TestHangUpThroughAllHops(t *testing.T) {
	t.Parallel()
	for name, protocol := range map[string]func(c *chain) func(context.Context, remotecommand.StreamOptions) error{
		"SPDY": func(c *chain) func(context.Context, remotecommand.StreamOptions) error {
			return func(ctx context.Context, options remotecommand.StreamOptions) error {
				return c.exec(ctx, options, "wait")
			}
		},
		"WebSocket": func(c *chain) func(context.Context, remotecommand.StreamOptions) error {
			return func(ctx context.Context, options remotecommand.StreamOptions) error {
				executor, err := remotecommand.NewWebSocketExecutorForProtocols(c.config(), http.MethodGet,
					c.kubelet+"/exec/user/p/main?output=1&command=wait", "v4.channel.k8s.io")
				if err != nil {
					return err
				}
				return executor.StreamWithContext(ctx, options)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startChain(t, 0)
			hangUp, done := c.waiting(protocol(c), remotecommand.StreamOptions{})
			defer hangUp()
			assert.EqualValues(t, 1, c.cluster.Running())
			begun := time.Now()
			hangUp()
			require.Error(t, c.end(done))
			c.nothingIsLeft(begun)
		})
	}
}

// TestClusterHangsUp: a command whose connection broke has not succeeded.
func TestClusterHangsUp(t *testing.T) {
	t.Parallel()
	c := startChain(t, 0)
	hangUp, done := c.waiting(func(ctx context.Context, options remotecommand.StreamOptions) error {
		return c.exec(ctx, options, "wait")
	}, remotecommand.StreamOptions{})
	defer hangUp()
	begun := time.Now()
	c.cluster.HangUp()
	require.ErrorContains(t, c.end(done), "broke before the command ended")
	c.nothingIsLeft(begun)
}

// endless is an input that has always more.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestHangUpBehindUnreadInput: what a command does not read fills all buffers, and must
// not hide from any hop that the caller has hung up.
func TestHangUpBehindUnreadInput(t *testing.T) {
	t.Parallel()
	c := startChain(t, 0)
	c.line()
	hangUp, done := c.waiting(func(ctx context.Context, options remotecommand.StreamOptions) error {
		return c.exec(ctx, options, "wait")
	}, remotecommand.StreamOptions{Stdin: endless{}})
	defer hangUp()
	<-time.NewTimer(time.Second).C // all buffers fill
	begun := time.Now()
	c.kill() // the caller ends without a word
	hangUp()
	_ = c.end(done) // what client-go makes of it does not matter
	require.Eventually(t, func() bool { return c.sessions() == 0 }, chainPatient, time.Millisecond, "every hop has let go")
	t.Logf("every hop had let go after %s", time.Since(begun))
}

// TestStreamsAreLimited: the virtual kubelet has so many connections open and no more,
// and says so.
func TestStreamsAreLimited(t *testing.T) {
	t.Parallel()
	c := startChain(t, 2)
	wait := func(ctx context.Context, options remotecommand.StreamOptions) error {
		return c.exec(ctx, options, "wait")
	}
	hangUp, done := c.waiting(wait, remotecommand.StreamOptions{})
	defer hangUp()
	other, otherDone := c.waiting(wait, remotecommand.StreamOptions{})
	defer other()
	err := c.exec(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard}, "flood", "1")
	require.ErrorContains(t, err, "2 connections into pods of this virtual node are open; close some and try again")
	hangUp()
	require.Error(t, c.end(done))
	var conn httpstream.Connection
	require.Eventually(t, func() bool {
		conn, err = c.dialForward()
		return err == nil
	}, chainPatient, 10*time.Millisecond, "places are given back")
	defer func() { _ = conn.Close() }()
	assert.Contains(t, c.connect(conn, "1"), "no more connections are allowed", "connections to ports count, too")
	other()
	require.Error(t, c.end(otherDone))
	require.Eventually(t, func() bool { return strings.HasSuffix(c.connect(conn, "2"), "connection refused") }, chainPatient, 10*time.Millisecond)
}

// dialForward opens a connection for port-forward.
func (c *chain) dialForward() (httpstream.Connection, error) {
	transport, upgrader, err := spdy.RoundTripperFor(c.config())
	require.NoError(c.t, err)
	target, err := url.Parse(c.kubelet + "/portForward/user/p")
	require.NoError(c.t, err)
	conn, _, err := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, target).Dial(portforward.PortForwardProtocolV1Name)
	return conn, err
}

// connect asks for a port that nobody serves, and returns what is said.
func (c *chain) connect(conn httpstream.Connection, id string) string {
	headers := http.Header{}
	headers.Set(corev1.PortHeader, "9")
	headers.Set(corev1.PortForwardRequestIDHeader, id)
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	failures, err := conn.CreateStream(headers)
	require.NoError(c.t, err)
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(headers)
	require.NoError(c.t, err)
	defer conn.RemoveStreams(failures, data)
	text, err := io.ReadAll(failures)
	require.NoError(c.t, err)
	return string(text)
}

func TestPortForwardThroughAllHops(t *testing.T) {
	t.Parallel()
	c := startChain(t, 0)
	addresses, stop := c.forwarding("7", "9")
	echoing, refusing := addresses[0], addresses[1]
	var dialing sync.WaitGroup
	for i := range 8 {
		dialing.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", echoing)
			if !assert.NoError(t, err) {
				return
			}
			defer func() { _ = conn.Close() }()
			content := bytes.Repeat([]byte{byte('a' + i)}, 1<<20)
			go func() { _, _ = conn.Write(content) }()
			echo := make([]byte, len(content))
			_, err = io.ReadFull(conn, echo)
			assert.NoError(t, err)
			assert.Equal(t, content, echo)
		})
	}
	dialing.Wait()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", refusing)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(chainPatient)))
	said, err := io.ReadAll(conn)
	require.NoError(t, err, "a port that nobody serves ends the connection to it, not the others")
	assert.Empty(t, said)
	stop()
	require.Eventually(t, func() bool { return c.cluster.Open() == 0 }, chainPatient, time.Millisecond)
}

func TestWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	c := startChain(t, 0)
	client := &http.Client{Transport: func() *http.Transport {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		t.Cleanup(transport.CloseIdleConnections)
		return transport
	}()}
	ask := func(path string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.kubelet+path, nil)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer any")
		answer, err := client.Do(request)
		require.NoError(t, err)
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body)
	}
	code, text := ask("/exec/user/p/other?output=1")
	assert.Equal(t, http.StatusNotFound, code)
	assert.Contains(t, text, `no container "other"`)
	code, _ = ask("/exec/user/unknown/main?output=1")
	assert.Equal(t, http.StatusNotFound, code)
	c.pods.Offer(interlink.PingResponse{}) // the far end is upstream's now
	for _, path := range []string{"/exec/user/p/main?output=1", "/attach/user/p/main?output=1", "/portForward/user/p"} {
		code, text = ask(path)
		assert.Equal(t, http.StatusNotImplemented, code)
		assert.Contains(t, text, "not offered by the far end of this virtual node")
	}
}
