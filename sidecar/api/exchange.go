// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
)

const (
	contentJSON = "application/json"
	contentText = "text/plain; charset=utf-8"
)

// exchange is one request of a caller, after authentication.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	client  string
	session string
	// probe is true for a question of the gateway's own, which is no client's.
	probe bool
	// buffered is the caller's share of the memory for bodies.
	buffered *semaphore.Weighted
}

// answerer answers an exchange, or returns an error that has not been answered.
type answerer func(*exchange) error

// refusalError is an error with the answer it deserves. Its text is for users.
type refusalError struct {
	code    int
	text    string
	refused bool
}

func (e *refusalError) Error() string { return e.text }

func refuse(code int, format string, args ...any) error {
	return &refusalError{code: code, text: fmt.Sprintf(format, args...)}
}

// handle puts identity, session, turn and error answers around an answerer.
func (g *Gateway) handle(kind kind, answer answerer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, err := g.cfg.Authenticate(r)
		if err != nil {
			g.refuseCaller(w, r, err)
			return
		}
		x := &exchange{w: w, r: r, client: client, session: sessionOf(r)}
		logger := logging.From(r.Context()).With("session", x.session, "client", client, "path", r.URL.Path)
		ctx := logging.Into(r.Context(), logger)
		x.r = r.WithContext(ctx)
		w.Header().Set(interlink.HeaderSession, x.session)
		g.callers.ask(client, kind)
		share, done, err := g.turns.take(ctx, kind, client)
		if err != nil {
			x.fail(ctx, err)
			return
		}
		defer done()
		x.buffered = share
		start := time.Now()
		if err := answer(x); err != nil {
			x.fail(ctx, err)
		}
		logger.DebugContext(ctx, "request answered", "duration", time.Since(start))
	})
}

func (g *Gateway) refuseCaller(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	if errors.Is(err, ErrUnauthenticated) {
		logging.From(ctx).InfoContext(ctx, "caller was refused", "reason", err, "remote", r.RemoteAddr)
		w.Header().Set("WWW-Authenticate", `Bearer realm="interlink"`)
		http.Error(w, "not authenticated: a valid client certificate or bearer token is needed", http.StatusUnauthorized)
		return
	}
	logging.From(ctx).WarnContext(ctx, "caller could not be checked", "error", err, "remote", r.RemoteAddr)
	http.Error(w, "the caller's identity cannot be checked now", http.StatusServiceUnavailable)
}

// fail answers an error: a refusal as it says, a caller that has gone not at
// all, and anything else with 500, which is what upstream answers.
func (x *exchange) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		logging.From(ctx).DebugContext(ctx, "caller left before the answer", "error", err)
	}
	var known *refusalError
	if !errors.As(err, &known) {
		known = &refusalError{code: http.StatusInternalServerError, text: "internal error"}
		logging.From(ctx).ErrorContext(ctx, "request failed", "error", err)
	} else {
		logging.From(ctx).InfoContext(ctx, "request was not fulfilled", "code", known.code, "reason", known.text)
	}
	if known.refused {
		x.w.Header().Set(interlink.HeaderRefusal, "true")
	}
	http.Error(x.w, known.text, known.code)
}

// body reads the whole request body. Bodies count against one budget, so that
// many callers together cannot exhaust the memory; release returns the share.
func (g *Gateway) body(x *exchange) (body []byte, release func(), err error) {
	limit := g.cfg.Limits.MaxBody
	share := x.r.ContentLength
	switch {
	case share == 0:
		return nil, func() {}, nil
	case share > limit:
		return nil, nil, refuse(http.StatusRequestEntityTooLarge, "request body is larger than %d bytes", limit)
	case share < 0:
		share = limit
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), g.cfg.Limits.Patience)
	defer cancel()
	release, err = acquire(ctx, share, x.buffered, g.buffered)
	if err != nil {
		return nil, nil, err
	}
	body, err = readAll(http.MaxBytesReader(x.w, x.r.Body, limit), x.r.ContentLength)
	if err != nil {
		release()
		code, text := httpserver.BodyError(err)
		return nil, nil, refuse(code, "%s", text)
	}
	return body, release, nil
}

// acquire takes size of every budget, or of none.
func acquire(ctx context.Context, size int64, budgets ...*semaphore.Weighted) (release func(), err error) {
	taken := 0
	release = func() {
		for _, budget := range budgets[:taken] {
			budget.Release(size)
		}
	}
	for _, budget := range budgets {
		if budget.Acquire(ctx, size) != nil {
			release()
			return nil, refuse(http.StatusTooManyRequests, "too many large requests at one time, try again")
		}
		taken++
	}
	return release, nil
}

// readAll reads everything into one buffer of the announced size, if there is one.
func readAll(from io.Reader, announced int64) ([]byte, error) {
	if announced < 0 {
		return io.ReadAll(from)
	}
	body := make([]byte, announced)
	if _, err := io.ReadFull(from, body); err != nil {
		return nil, err
	}
	return body, nil
}

// sessionOf is the caller's correlation id, or a new one in upstream's form.
func sessionOf(r *http.Request) string {
	if session := r.Header.Get(interlink.HeaderSession); len(session) <= 128 && isName(session) {
		return session
	}
	return "Request-" + uuid.NewString()
}

// isName reports whether text is not empty and safe in a header and in a log.
func isName(text string) bool {
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return text != ""
}

// answer writes a whole successful answer.
func (x *exchange) answer(contentType string, body []byte) {
	x.w.Header().Set("Content-Type", contentType)
	// A caller that has gone cannot be told; there is nothing to undo.
	_, _ = x.w.Write(body)
}
