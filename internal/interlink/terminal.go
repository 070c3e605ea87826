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
	target, err := url.Parse(c.base + PodStreamPath(t.PodUID, kind))
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
	executor, err := c.executor(ctx, kind, target)
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	// An exit code has to stay the outermost error for those who look for it.
	return executor.StreamWithContext(ctx, remotecommand.StreamOptions{
		Stdin: t.Stdin, Stdout: t.Stdout, Stderr: t.Stderr, Tty: t.TTY, TerminalSizeQueue: t.Sizes,
	})
}

// executor tries WebSocket first, which passes ingresses and proxies, and SPDY
// when that is not understood. There are none of those on a unix socket.
func (c *Client) executor(ctx context.Context, kind StreamKind, target *url.URL) (remotecommand.Executor, error) { //nolint:ireturn // client-go's own seam
	dialer := &dialer{client: c, ctx: ctx, kind: kind}
	spdy, err := remotecommand.NewSPDYExecutorForTransports(dialer, spdytransport.NewUpgraderForStreaming(dialer), http.MethodPost, target)
	if err != nil || c.unix {
		return spdy, err
	}
	websocket, err := remotecommand.NewWebSocketExecutor(dialer.config(), http.MethodGet, target.String()) //nolint:contextcheck // the dialer holds ctx
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(websocket, spdy, isNotUpgraded)
}

// isNotUpgraded tells that the far end, or something before it, answered but did not
// upgrade; the other protocol's answer is then as good or better.
func isNotUpgraded(err error) bool {
	var failure *httpstream.UpgradeFailureError
	return errors.As(err, &failure)
}
