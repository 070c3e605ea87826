// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"
)

const (
	socketPath = privateDir + "/units.sock"
	// requestTimeout bounds reading what systemctl was asked, not the doing of it.
	requestTimeout = 10 * time.Second
	// doTimeout is the longest that systemctl waits.
	doTimeout = 10 * time.Minute
	maxAnswer = 4 << 20
)

// request is what systemctl was called with.
type request struct {
	Args []string `json:"args"`
}

// answer is what it prints and how it ends.
type answer struct {
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	Code   int    `json:"code"`
}

// listen answers systemctl until ctx ends.
func (m *manager) listen(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", filepath.Clean(socketPath))
	if err != nil {
		return fmt.Errorf("listen for systemctl: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	m.supervising.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			m.supervising.Go(func() { m.serve(ctx, conn) })
		}
	})
	return nil
}

func (m *manager) serve(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return
	}
	var asked request
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&asked); err != nil {
		return // nobody is there to be told
	}
	data, err := json.Marshal(m.systemctl(ctx, asked.Args))
	if err != nil {
		m.console.say("answer systemctl: %v", err)
		return
	}
	_, _ = conn.Write(data) // as above
}

// Systemctl is the machine's systemctl: it has Init do what args say, prints what there is
// to be printed, and returns the exit code.
func Systemctl(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(ctx, doTimeout)
	defer cancel()
	result, err := ask(ctx, args)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "systemctl: %v\n", err)
		return 1
	}
	_, _ = io.WriteString(stdout, result.Stdout)
	_, _ = io.WriteString(stderr, result.Stderr)
	return result.Code
}

func ask(ctx context.Context, args []string) (answer, error) {
	var result answer
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socketPath)
	if err != nil {
		return result, fmt.Errorf("reach the machine's init: %w", err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := json.NewEncoder(conn).Encode(request{Args: args}); err != nil {
		return result, fmt.Errorf("ask the machine's init: %w", err)
	}
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&result); err != nil {
		return result, fmt.Errorf("read the answer of the machine's init: %w", err)
	}
	return result, nil
}
