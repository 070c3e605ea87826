// SPDX-License-Identifier: Apache-2.0

package api

import (
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/tunnel"
)

// extensionPrefix is where this project's routes beyond upstream's begin.
const extensionPrefix = "/caas/v1/"

// stream passes an extension's request through to the plugin, both ways and
// unbuffered, upgraded connections too. It ends when either side leaves or the
// server shuts down.
func (g *Gateway) stream(x *exchange) error {
	offered, err := g.plugin.offers(x.r.Context(), x)
	if err != nil {
		return err
	}
	if len(offered) == 0 || (x.r.URL.Path == interlink.PathWatch && !slices.Contains(offered, interlink.ExtensionStatusStream)) {
		return refuse(http.StatusNotFound, "the interLink plugin does not offer %.100s", x.r.URL.Path)
	}
	proxy, err := g.proxy(x)
	if err != nil {
		return err
	}
	ctx, cancel := httpserver.Stream(x.r.Context())
	defer cancel()
	proxy.ServeHTTP(x.w, x.r.WithContext(ctx))
	return nil
}

// session passes an upgraded connection into a pod through to the plugin. It ends
// when either side hangs up or the server shuts down.
func (g *Gateway) session(x *exchange) error {
	uid, kind, ok := interlink.ParsePodStreamPath(x.r.URL.Path)
	if !ok || !isUID(uid) {
		return refuse(http.StatusBadRequest, "the pod's UID is not a lower-case UUID")
	}
	offered, err := g.plugin.offers(x.r.Context(), x)
	switch {
	case err != nil:
		return err
	case !slices.Contains(offered, kind.Extension()):
		return refuse(http.StatusNotImplemented, "the interLink plugin does not offer %s", kind)
	case !tunnel.IsUpgrade(x.r):
		return refuse(http.StatusBadRequest, "%s needs a connection that is upgraded to WebSocket or SPDY/3.1; does a proxy before this server drop the header Upgrade?", kind)
	}
	select {
	case g.sessions <- struct{}{}:
		defer func() { <-g.sessions }()
	default:
		return refuse(http.StatusTooManyRequests, "%d connections into pods are open here, and no more are allowed; try again later", cap(g.sessions))
	}
	proxy, err := g.proxy(x)
	if err != nil {
		return err
	}
	proxy.Transport = g.plugin.upgrades
	ctx, cancel := httpserver.Stream(x.r.Context())
	defer cancel()
	g.opened.WithLabelValues(string(kind)).Inc()
	open := g.open.WithLabelValues(string(kind))
	open.Inc()
	defer open.Dec()
	logger := logging.From(ctx)
	logger.InfoContext(ctx, "session opened", "kind", kind, "uid", uid)
	err = tunnel.Serve(x.w, x.r.WithContext(ctx), proxy, tunnel.Limits{Idle: g.cfg.Limits.SessionIdle})
	logger.InfoContext(ctx, "session closed", "kind", kind, "uid", uid, "reason", err)
	return nil
}

// proxy passes the exchange's request on to the plugin, with the caller's name
// instead of the caller's credentials.
func (g *Gateway) proxy(x *exchange) (*httputil.ReverseProxy, error) {
	target, err := url.Parse(g.plugin.base)
	if err != nil {
		return nil, err
	}
	logger := logging.From(x.r.Context())
	return &httputil.ReverseProxy{
		Transport:     g.plugin.http.Transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			for _, name := range []string{"Authorization", "Cookie", interlink.HeaderClient, interlink.HeaderProbe} {
				p.Out.Header.Del(name)
			}
			p.Out.Header.Set(interlink.HeaderSession, x.session)
			if x.client != "" {
				p.Out.Header.Set(interlink.HeaderClient, x.client)
			}
		},
		ModifyResponse: func(answer *http.Response) error {
			answer.Header.Del("Set-Cookie")
			answer.Header.Del(interlink.HeaderSession) // ours is set already
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			ctx := r.Context()
			if ctx.Err() != nil {
				return // nobody is left to be told
			}
			logger.WarnContext(ctx, "plugin gave no answer", "error", err)
			http.Error(w, "the interLink plugin cannot be reached", http.StatusBadGateway)
		},
	}, nil
}
