// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"time"
)

// Names of the two protocols, in lower case.
const (
	WebSocket = "websocket"
	SPDY      = "spdy/3.1"
)

// headerProtocols is where WebSocket's sub-protocols are offered; Kubernetes' API
// server takes a bearer token in it, too.
const (
	headerProtocols = "Sec-Websocket-Protocol"
	bearerProtocol  = "base64url.bearer.authorization.k8s.io." //nolint:gosec // what a token begins with is none
)

// Protocol is which of the two protocols r asks for; "" for none.
func Protocol(r *http.Request) string {
	asked := strings.ToLower(r.Header.Get("Upgrade"))
	upgrade := slices.ContainsFunc(strings.Split(r.Header.Get("Connection"), ","), func(token string) bool {
		return strings.EqualFold(strings.TrimSpace(token), "upgrade")
	})
	if upgrade && (asked == WebSocket || asked == SPDY) {
		return asked
	}
	return ""
}

// Request returns the headers of a request that may be passed on, which are those
// of the upgrade and of tracing: others could name another user to the far side,
// where the request is sent with this program's own rights.
func Request(header http.Header) http.Header {
	passed := only(header, "Connection", "Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Version",
		"Sec-Websocket-Extensions", headerProtocols, headerStreamProtocol, "Traceparent", "Tracestate")
	if offered := passed.Values(headerProtocols); len(offered) > 0 {
		passed.Set(headerProtocols, strings.Join(withoutTokens(offered), ", "))
	}
	return passed
}

// Answer returns the headers of an answer that may be passed on.
func Answer(header http.Header) http.Header {
	return only(header, "Connection", "Upgrade", "Sec-Websocket-Accept", "Sec-Websocket-Extensions",
		headerProtocols, headerStreamProtocol, "X-Accepted-Stream-Protocol-Versions", "Content-Type", "Content-Length")
}

func only(header http.Header, names ...string) http.Header {
	passed := http.Header{}
	for _, name := range names {
		if values := header.Values(name); len(values) > 0 {
			passed[name] = slices.Clone(values)
		}
	}
	return passed
}

func withoutTokens(offered []string) []string {
	var kept []string
	for _, list := range offered {
		for protocol := range strings.SplitSeq(list, ",") {
			if protocol = strings.TrimSpace(protocol); protocol != "" && !strings.HasPrefix(protocol, bearerProtocol) {
				kept = append(kept, protocol)
			}
		}
	}
	return kept
}

// patient bounds the time until an answer begins, and nothing after it.
type patient struct {
	next  http.RoundTripper
	limit time.Duration
	got   func(net.Conn)
}

// RoundTrip implements http.RoundTripper.
func (p *patient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(p.limit, func() { cancel(errNoAnswer) })
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { p.got(info.Conn) }})
	answer, err := p.next.RoundTrip(r.WithContext(traced))
	timer.Stop()
	if err != nil {
		defer cancel(nil)
		if context.Cause(ctx) == errNoAnswer { //nolint:errorlint // a cause is what was given
			return nil, errNoAnswer
		}
		return nil, err
	}
	// The answer's body lives on under ctx, which ends with the request's own.
	context.AfterFunc(r.Context(), func() { cancel(nil) })
	return answer, nil
}
