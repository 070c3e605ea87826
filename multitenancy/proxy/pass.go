// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
)

// largestObject is more than the API server takes, so that it says itself that an object is too large.
const largestObject = 8 << 20

// exchange is a request on its way to the API server.
type exchange struct {
	info     *request.RequestInfo
	query    string
	selector selectorResult
	code     int
}

type exchangeKey struct{}

func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// pass sends a request on, with the selector that it needs.
func (p *Proxy) pass(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	token := bearer(r.Header)
	if token == "" {
		refuse(w, noToken())
		return
	}
	x := &exchange{info: p.resolve(r), query: r.URL.RawQuery, selector: selectorNone}
	if problem := p.limit(r, token, x); problem != nil {
		x.code = int(problem.ErrStatus.Code)
		p.count(x, began, false)
		refuse(w, problem)
		return
	}
	p.send(w, r, x, began)
}

// resolve reads what a request is about as the API server does. Of options that cannot be read the API server tells the
// user; its resolver would tell the operator as well.
func (p *Proxy) resolve(r *http.Request) *request.RequestInfo {
	plain := &http.Request{Method: r.Method, URL: &url.URL{Path: r.URL.Path}}
	info, err := p.resolver.NewRequestInfo(plain)
	if err != nil {
		return &request.RequestInfo{Path: r.URL.Path, Verb: strings.ToLower(r.Method)}
	}
	var options metainternalversion.ListOptions
	if info.Verb != verbList || scheme.ParameterCodec.DecodeParameters(r.URL.Query(), metav1.SchemeGroupVersion, &options) != nil {
		return info
	}
	plain.URL.RawQuery = r.URL.RawQuery
	if whole, err := p.resolver.NewRequestInfo(plain); err == nil {
		return whole
	}
	return info
}

// noToken is for those who use client certificates, most likely.
func noToken() *apierrors.StatusError {
	return apierrors.NewUnauthorized("this address is for users with a bearer token, which it passes on; there is none in the request, or not only one. " +
		"Client certificates and passwords cannot be passed on: use the API server's own address with them")
}

// limit adds the selector. The error is for the user.
func (p *Proxy) limit(r *http.Request, token string, x *exchange) *apierrors.StatusError {
	needed := p.rules.need(x.info)
	if needed == needNothing || impersonates(r.Header) {
		return nil
	}
	ctx := r.Context()
	who, err := p.callers.of(ctx, token)
	code := answered(err)
	switch {
	case err == nil && who.id == "":
		return nil // no tenant
	case err == nil:
		x.query, x.selector = who.requirement(needed, x.info.Verb).limit(x.query)
		return nil
	case code == http.StatusTooManyRequests:
		return apierrors.NewTooManyRequests("the API server is busy; try again", 1)
	case code >= http.StatusBadRequest && code < http.StatusInternalServerError:
		return nil // what is wrong with the user, the API server says itself
	}
	if ctx.Err() == nil {
		logging.From(ctx).WarnContext(ctx, "caller cannot be found out", "error", err)
	}
	return unavailable("the API server cannot be asked who you are; try again", true)
}

// send passes a request on until its answer has ended.
func (p *Proxy) send(w http.ResponseWriter, r *http.Request, x *exchange, began time.Time) {
	ctx, kind, stream := r.Context(), "request", streams(r, x.info)
	if stream {
		kind = "stream"
		var cancel context.CancelFunc
		ctx, cancel = httpserver.Stream(ctx)
		defer cancel()
		httpserver.AllowSlowReader(w, 0)
	}
	r = r.WithContext(withExchange(ctx, x))
	if x.info.Subresource == "proxy" {
		// What is sent to pods can be anything, and take as long as it does.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // fails on connections that have no deadline
	} else if r.Body != nil {
		r.Body = http.MaxBytesReader(w, r.Body, largestObject)
	}
	open := p.metrics.open.WithLabelValues(kind)
	open.Inc()
	defer func() {
		open.Dec()
		p.count(x, began, stream)
	}()
	p.reverse.ServeHTTP(w, r)
}

func (p *Proxy) count(x *exchange, began time.Time, stream bool) {
	verb := verbLabel(x.info.Verb, x.info.IsResourceRequest)
	p.metrics.requests.WithLabelValues(verb, codeLabel(x.code), string(x.selector)).Inc()
	if !stream {
		p.metrics.duration.WithLabelValues(verb).Observe(time.Since(began).Seconds())
	}
}

// codeLabel is bounded, though what pods answer through the API server is not.
func codeLabel(code int) string {
	switch {
	case code == 0:
		return "none"
	case http.StatusText(code) == "":
		return "other"
	default:
		return strconv.Itoa(code)
	}
}

// streams tells requests whose answers may have no end.
func streams(r *http.Request, info *request.RequestInfo) bool {
	if r.Header.Get("Upgrade") != "" || info.Verb == verbWatch {
		return true
	}
	switch info.Subresource {
	case "log", "proxy", "exec", "attach", "portforward":
		return true
	default:
		return false
	}
}

func (p *Proxy) newReverse(transport http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:  transport,
		BufferPool: newBuffers(),
		// Answers of unknown length, as those of watches, are flushed as they come.
		ErrorLog:       slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // ErrorHandler is told, too
		Rewrite:        p.rewrite,
		ModifyResponse: p.modify,
		ErrorHandler:   p.failed,
	}
}

// rewrite leaves path and headers as they are.
func (p *Proxy) rewrite(out *httputil.ProxyRequest) {
	out.Out.URL.Scheme, out.Out.URL.Host = p.asker.server.Scheme, p.asker.server.Host
	out.Out.Host = ""
	if x := exchangeOf(out.In.Context()); x != nil {
		out.Out.URL.RawQuery = x.query
	}
	for name := range out.Out.Header {
		// Nobody but an authenticating proxy has these. The API server would not believe this one.
		if strings.HasPrefix(name, "X-Remote-") {
			out.Out.Header.Del(name)
		}
	}
	out.SetXForwarded() // the API server's audit log says from where the user came
}

func (p *Proxy) modify(answer *http.Response) error {
	x := exchangeOf(answer.Request.Context())
	if x == nil {
		return nil
	}
	before := answer.StatusCode
	err := p.statuses.hide(answer, x.info)
	x.code = answer.StatusCode
	if before != answer.StatusCode {
		p.metrics.hidden.Inc()
	}
	return err
}

// failed answers when the API server did not.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	x := exchangeOf(ctx)
	problem := unavailable("the API server's answer was cut off; whether it did what was asked is not known", false)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		problem = apierrors.NewRequestEntityTooLargeError("the request is larger than any object may be")
	case notSent(err):
		problem = unavailable("the API server cannot be reached; try again", true)
	}
	ended := ctx.Err() != nil // the client has gone, or the proxy ends
	if x != nil && !ended {
		x.code = int(problem.ErrStatus.Code)
	}
	if large == nil && !ended {
		logging.From(ctx).WarnContext(ctx, "API server gave no answer", "error", err)
	}
	refuse(w, problem)
}

// notSent tells that there was no connection to send a request by.
func notSent(err error) bool {
	failure, ok := errors.AsType[*net.OpError](err)
	return ok && failure.Op == "dial"
}

func notFoundResource() schema.GroupResource { return schema.GroupResource{} }
