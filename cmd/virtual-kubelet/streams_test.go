// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
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
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"

	"github.com/cloudveneto/caas/internal/interlink"
)

func TestExecThroughAllHops(t *testing.T) {
	t.Parallel()
	c := startChain(t)
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
	c := startChain(t)
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
	c := startChain(t)
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
	c := startChain(t)
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

func TestHangUpThroughAllHops(t *testing.T) {
	t.Parallel()
	for name, caller := range map[string]bool{"the caller": true, "the cluster": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startChain(t)
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			from, to := io.Pipe()
			done := make(chan error, 1)
			go func() {
				err := c.exec(ctx, remotecommand.StreamOptions{Stdout: to}, "wait")
				_ = to.CloseWithError(err)
				done <- err
			}()
			_, err := io.ReadFull(from, make([]byte, len("waiting\n")))
			require.NoError(t, err)
			begun := time.Now()
			if caller {
				hangUp()
			} else {
				c.cluster.HangUp()
			}
			require.Error(t, <-done)
			require.Eventually(t, func() bool { return c.cluster.Open() == 0 }, chainPatient, time.Millisecond)
			t.Logf("noticed after %s", time.Since(begun))
		})
	}
}

func TestPortForwardThroughAllHops(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	transport, upgrader, err := spdy.RoundTripperFor(c.config())
	require.NoError(t, err)
	target, err := url.Parse(c.kubelet + "/portForward/user/p")
	require.NoError(t, err)
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target),
		[]string{"0:7", "0:9"}, stop, ready, io.Discard, io.Discard)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	<-ready
	ports, err := forwarder.GetPorts()
	require.NoError(t, err)
	var dialing sync.WaitGroup
	for i := range 8 {
		dialing.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
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
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", ports[1].Local))
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(chainPatient)))
	said, err := io.ReadAll(conn)
	require.NoError(t, err, "a port that nobody serves ends the connection to it, not the others")
	assert.Empty(t, said)
	close(stop)
	<-done
	require.Eventually(t, func() bool { return c.cluster.Open() == 0 }, chainPatient, time.Millisecond)
}

func TestWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	c := startChain(t)
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
