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
)

// extensionPrefix is where this project's routes beyond upstream's begin.
const extensionPrefix = "/caas/v1/"

// stream passes an extension's request through to the plugin, both ways and
// unbuffered, upgraded connections too. It ends when either side leaves or the
// server shuts down.
func (g *Gateway) stream(x *exchange) error {
	offered := usable(g.plugin.offers(x.r.Context(), x))
	if len(offered) == 0 || (x.r.URL.Path == interlink.PathWatch && !slices.Contains(offered, interlink.ExtensionStatusStream)) {
		return refuse(http.StatusNotFound, "the interLink plugin does not offer %.100s", x.r.URL.Path)
	}
	target, err := url.Parse(g.plugin.base)
	if err != nil {
		return err
	}
	ctx, cancel := httpserver.Stream(x.r.Context())
	defer cancel()
	logger := logging.From(ctx)
	proxy := &httputil.ReverseProxy{
		Transport:     g.plugin.http.Transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			for _, name := range []string{"Authorization", "Cookie", interlink.HeaderClient} {
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
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if ctx.Err() != nil {
				return // nobody is left to be told
			}
			logger.WarnContext(ctx, "plugin gave no answer", "error", err)
			http.Error(w, "the interLink plugin cannot be reached", http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(x.w, x.r.WithContext(ctx))
	return nil
}
