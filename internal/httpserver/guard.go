// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/cloudveneto/caas/internal/logging"
)

// guard puts limits around handler: body size and time, time of each write, and
// panics, which are answered and logged.
func (s *Server) guard(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handlers.start()
		defer s.handlers.end()
		answer := newWriter(w)
		answer.guards, answer.timeout = true, s.cfg.WriteTimeout
		defer answer.extend() // net/http flushes after the handler
		defer s.rescue(answer, r)
		if s.cfg.MaxBody > 0 && r.ContentLength > s.cfg.MaxBody {
			http.Error(answer, tooLarge(s.cfg.MaxBody), http.StatusRequestEntityTooLarge)
			return
		}
		s.guardBody(answer, r)
		handler.ServeHTTP(answer, r)
	})
}

// guardBody limits a request's body. The deadline is taken away at the body's
// end: from then on the server reads only to notice that the client has gone.
func (s *Server) guardBody(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return
	}
	body := r.Body
	if s.cfg.MaxBody > 0 {
		body = http.MaxBytesReader(w, body, s.cfg.MaxBody)
	}
	control := http.NewResponseController(w)
	if control.SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout)) == nil {
		body = &timedBody{ReadCloser: body, control: control}
	}
	r.Body = body
}

type timedBody struct {
	io.ReadCloser

	control *http.ResponseController
	ended   bool
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && !b.ended {
		b.ended = true
		_ = b.control.SetReadDeadline(time.Time{}) // setting it worked, so taking it away does
	}
	return n, err
}

func tooLarge(limit int64) string {
	return fmt.Sprintf("request body is larger than %d bytes", limit)
}

// BodyError is the status code and the sentence for an error of reading a
// request's body: 413 when it was too large, 408 when it took too long, else 400.
func BodyError(err error) (int, string) {
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge, tooLarge(large.Limit)
	}
	var late interface{ Timeout() bool }
	if errors.As(err, &late) && late.Timeout() {
		return http.StatusRequestTimeout, "request body took too long"
	}
	return http.StatusBadRequest, "request body is cut or unreadable"
}

// rescue answers a panic of the handler. The panic's value can hold anything, a
// token too, so only its type is logged, and its text when it is the runtime's own.
func (s *Server) rescue(w *writer, r *http.Request) {
	value := recover()
	if value == nil {
		return
	}
	failure, _ := value.(error)
	if errors.Is(failure, http.ErrAbortHandler) {
		panic(value) //nolint:forbidigo // asks net/http to cut the connection, as the handler wanted
	}
	text := fmt.Sprintf("%T", value)
	if fault := runtime.Error(nil); errors.As(failure, &fault) {
		text = fault.Error()
	}
	ctx := r.Context()
	logging.From(ctx).ErrorContext(ctx, "request handler panicked",
		"server", s.cfg.Name, "method", r.Method, "path", r.URL.Path, "panic", text, "stack", string(debug.Stack()))
	if w.taken {
		return
	}
	if w.code != 0 {
		panic(http.ErrAbortHandler) //nolint:forbidigo // half an answer is out: cut the connection so that the client can tell
	}
	http.Error(w, "internal error", http.StatusInternalServerError)
}
