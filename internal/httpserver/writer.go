// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
	"bufio"
	"net"
	"net/http"
	"time"
)

// writer remembers what was answered and, when it guards, sets a deadline for
// every write. net/http buffers, so a flush and the handler's end count as writes too.
type writer struct {
	http.ResponseWriter

	control *http.ResponseController
	guards  bool
	timeout time.Duration
	code    int
	taken   bool
}

func newWriter(w http.ResponseWriter) *writer {
	return &writer{ResponseWriter: w, control: http.NewResponseController(w)}
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) WriteHeader(code int) {
	if w.code == 0 && code >= http.StatusOK {
		w.code = code
	}
	w.extend()
	w.ResponseWriter.WriteHeader(code)
}

func (w *writer) Write(p []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	w.extend()
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher for libraries that do not use a ResponseController.
func (w *writer) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w *writer) FlushError() error {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	w.extend()
	return w.control.Flush()
}

// Hijack implements http.Hijacker for libraries that do not use a
// ResponseController; over HTTP/2 it fails. net/http takes the deadlines away.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := w.control.Hijack()
	w.taken = err == nil
	return conn, buffer, err
}

// extend moves the deadline; a connection without one is left as it is.
func (w *writer) extend() {
	if w.guards && w.timeout > 0 && !w.taken {
		_ = w.control.SetWriteDeadline(time.Now().Add(w.timeout))
	}
}

// AllowSlowReader changes how long each single write of this answer may take;
// 0 lets it take for ever. It reports whether w is an answer of this package's server.
func AllowSlowReader(w http.ResponseWriter, timeout time.Duration) bool {
	for w != nil {
		if answer, ok := w.(*writer); ok && answer.guards {
			answer.timeout = timeout
			_ = answer.control.SetWriteDeadline(time.Time{})
			return true
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = wrapper.Unwrap()
	}
	return false
}
