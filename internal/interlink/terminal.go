// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	remotecommandconsts "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/tools/remotecommand"
	spdytransport "k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// Terminal is what a command, or the main process of a container, is connected to.
// What is nil is not connected; with TTY there is no Stderr.
type Terminal struct {
	PodUID    string
	Container string
	// Command is what Exec runs; Attach has none.
	Command        []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	// Sizes tells the terminal's sizes; its Next returns nil at the end.
	Sizes remotecommand.TerminalSizeQueue
}

// Exec runs a command in a container until it ends or ctx is done. A command that
// ends otherwise than with 0 is a k8s.io/client-go/util/exec.CodeExitError.
func (c *Client) Exec(ctx context.Context, terminal *Terminal) error {
	return c.terminal(ctx, StreamExec, terminal)
}

// Attach connects to the main process of a container until it ends, the far end
// hangs up or ctx is done.
func (c *Client) Attach(ctx context.Context, terminal *Terminal) error {
	return c.terminal(ctx, StreamAttach, terminal)
}

func (c *Client) terminal(ctx context.Context, kind StreamKind, t *Terminal) error {
	target, err := c.streamURL(t.PodUID, kind)
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	query := url.Values{QueryContainer: {t.Container}, QueryTTY: {strconv.FormatBool(t.TTY)}}
	if kind == StreamExec {
		query[QueryCommand] = t.Command
	}
	query.Set(QueryStdin, strconv.FormatBool(t.Stdin != nil))
	query.Set(QueryStdout, strconv.FormatBool(t.Stdout != nil))
	query.Set(QueryStderr, strconv.FormatBool(t.Stderr != nil))
	target.RawQuery = query.Encode()
	// What runs behind the connection ends with ctx; client-go's own end waits for its
	// last words to be taken.
	dialer := &dialer{client: c, ctx: ctx, kind: kind}
	defer context.AfterFunc(ctx, dialer.hangUp)()
	executor, err := remotecommand.NewSPDYExecutorForProtocols(dialer, spdytransport.NewUpgraderForStreaming(dialer), http.MethodPost, target,
		remotecommandconsts.StreamProtocolV5Name, remotecommandconsts.StreamProtocolV4Name)
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{
		Stdin: t.Stdin, Stdout: t.Stdout, Stderr: t.Stderr, Tty: t.TTY, TerminalSizeQueue: t.Sizes,
	})
	if err == nil && !dialer.ended.Load() {
		return fmt.Errorf("%s: %w", kind, errCutOff)
	}
	// An exit code has to stay the outermost error for those who look for it.
	return err
}

// errCutOff says that the far end has not told how a command ended; for client-go
// that is success.
var errCutOff = errors.New("the connection broke before the command ended")

// ending is a connection that notes when the far end has told how a command ended,
// which the protocols from v4 on do for success, too.
type ending struct {
	httpstream.Connection

	told *atomic.Bool
}

// CreateStream implements httpstream.Connection.
func (e *ending) CreateStream(headers http.Header) (httpstream.Stream, error) { //nolint:ireturn // the library's own seam
	stream, err := e.Connection.CreateStream(headers)
	if err != nil || headers.Get(corev1.StreamType) != corev1.StreamTypeError {
		return stream, err
	}
	return &endStream{Stream: stream, told: e.told}, nil
}

type endStream struct {
	httpstream.Stream

	told *atomic.Bool
}

func (s *endStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	if n > 0 {
		s.told.Store(true)
	}
	return n, err
}
