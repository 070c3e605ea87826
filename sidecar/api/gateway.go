// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/cloudveneto/caas/internal/interlink"
)

// CreateForm is how a plugin wants the body of /create.
type CreateForm string

const (
	// CreateObject is one object: plugins for interLink 0.5 and newer.
	CreateObject CreateForm = "object"
	// CreateArray is a list of one object: plugins for interLink 0.4 and older.
	CreateArray CreateForm = "array"
)

// Config is what a Gateway needs; zero values of the limits mean their defaults.
type Config struct {
	// PluginURL is http://host:port, https://host:port or unix:///path.
	PluginURL string
	// PluginTLS is for an https plugin; nil trusts the system's authorities.
	PluginTLS *tls.Config
	// CreateForm defaults to CreateObject.
	CreateForm CreateForm
	// WrapTransport, when set, is put around the plugin's transport (tracing).
	WrapTransport func(http.RoundTripper) http.RoundTripper
	// WrapUpgrade is WrapTransport for requests that take over their connection.
	WrapUpgrade func(http.RoundTripper) http.RoundTripper
	// Registry, when set, gets the gateway's metrics.
	Registry prometheus.Registerer

	// Authenticate names the caller; nil lets everyone in, without a name.
	Authenticate Authenticator
	Limits       Limits
	Cache        CacheLimits

	// JobConfig and JobScriptURLs are for HPC plugins: a job script is asked for
	// only at one of the URLs listed here, whatever a request names.
	JobConfig     *interlink.JobConfig
	JobScriptURLs []string
	// JobScriptClient sends the requests for job scripts; required with JobScriptURLs.
	JobScriptClient *http.Client
}

// Limits bound what callers can make the gateway hold.
type Limits struct {
	// MaxBody is the largest request body in bytes; default 64 MiB.
	MaxBody int64
	// MaxBuffered bounds the bodies held at one time; default 256 MiB.
	MaxBuffered int64
	// RequestsPerClient and StreamsPerClient bound what one caller has open at one
	// time; defaults 256 and 1024. Requests beyond wait for their turn.
	RequestsPerClient int
	StreamsPerClient  int
	// SessionsPerClient bounds what one caller has upgraded at one time (exec, attach,
	// port-forward), so that these cannot shut out its logs and statuses; default 512.
	// Sessions bounds those of all callers; default 4096. More are refused at once:
	// somebody sits before each.
	SessionsPerClient, Sessions int
	// SessionIdle is how long nothing may move in an upgraded connection; default 4 h,
	// a kubelet's own limit. A caller that stops reading is not cut off before.
	SessionIdle time.Duration
	// Patience is how long a request waits for its turn; default 30 s.
	Patience time.Duration
	// PluginTimeout bounds each call of the plugin but logs and streams; default 2 min.
	PluginTimeout time.Duration
}

func (l *Limits) complete() {
	l.MaxBody = orDefault(l.MaxBody, 64<<20)
	l.MaxBuffered = max(orDefault(l.MaxBuffered, 256<<20), l.MaxBody)
	l.RequestsPerClient = orDefault(l.RequestsPerClient, 256)
	l.StreamsPerClient = orDefault(l.StreamsPerClient, 1024)
	l.SessionsPerClient = orDefault(l.SessionsPerClient, 512)
	l.Sessions = orDefault(l.Sessions, 4096)
	l.SessionIdle = orDefault(l.SessionIdle, 4*time.Hour)
	l.Patience = orDefault(l.Patience, 30*time.Second)
	l.PluginTimeout = orDefault(l.PluginTimeout, 2*time.Minute)
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// supported is what this gateway can carry beyond upstream's protocol.
func supported() []interlink.Extension {
	return []interlink.Extension{
		interlink.ExtensionStatusStream, interlink.ExtensionReferences, interlink.ExtensionIdempotent,
		interlink.ExtensionExec, interlink.ExtensionAttach, interlink.ExtensionPortForward,
		interlink.ExtensionUpdate,
		interlink.ExtensionEvents, interlink.ExtensionStats, interlink.ExtensionEphemeral,
		interlink.ExtensionClaims, interlink.ExtensionNodeLabels,
	}
}

// Gateway answers virtual kubelets. It may be used by many goroutines at once.
type Gateway struct {
	cfg      Config
	plugin   *plugin
	cache    *cache
	turns    *turns
	callers  *callers
	buffered *semaphore.Weighted
	// sessions has one element per upgraded connection.
	sessions chan struct{}
	// opened counts upgraded connections by kind; open is how many there are now.
	opened *prometheus.CounterVec
	open   *prometheus.GaugeVec
}

// New returns a gateway to the plugin at cfg.PluginURL, which need not run yet.
func New(cfg Config) (*Gateway, error) {
	cfg.Limits.complete()
	cfg.CreateForm = orDefault(cfg.CreateForm, CreateObject)
	if cfg.CreateForm != CreateObject && cfg.CreateForm != CreateArray {
		return nil, fmt.Errorf("create form %q: want %s or %s", cfg.CreateForm, CreateObject, CreateArray)
	}
	if len(cfg.JobScriptURLs) > 0 && (cfg.JobConfig == nil || cfg.JobScriptClient == nil) {
		return nil, errors.New("job script URLs need a job script configuration and a client")
	}
	if cfg.Authenticate == nil {
		cfg.Authenticate = anyone
	}
	plugin, err := newPlugin(cfg)
	if err != nil {
		return nil, err
	}
	gateway := &Gateway{
		cfg:      cfg,
		plugin:   plugin,
		cache:    newCache(cfg.Cache),
		turns:    newTurns(cfg.Limits),
		buffered: semaphore.NewWeighted(cfg.Limits.MaxBuffered),
		sessions: make(chan struct{}, cfg.Limits.Sessions),
	}
	if err := gateway.register(cfg.Registry); err != nil {
		return nil, err
	}
	return gateway, nil
}

// Handler returns the routes. middleware is put around every known route, inside
// the router, where mux.CurrentRoute is known.
func (g *Gateway) Handler(middleware ...mux.MiddlewareFunc) http.Handler {
	router := mux.NewRouter()
	for path, answer := range map[string]answerer{
		interlink.PathCreate:      g.create,
		interlink.PathStatus:      g.status,
		interlink.PathDelete:      g.delete,
		interlink.PathUpdateCache: g.updateCache,
	} {
		router.Handle(path, g.handle(requests, answer)).Methods(methods()...)
	}
	router.Handle(interlink.PathPing, g.handle(pings, g.ping)).Methods(methods()...)
	router.Handle(interlink.PathLogs, g.handle(streams, g.logs)).Methods(methods()...)
	router.Handle(interlink.RouteEphemeral, g.handle(requests, g.ephemeral)).Methods(http.MethodPost)
	router.Handle(interlink.PathStats, g.handle(requests, g.stats)).Methods(http.MethodGet)
	router.Handle(interlink.RoutePodStream, g.handle(sessions, g.session)).Methods(http.MethodGet, http.MethodPost)
	router.Handle(interlink.RoutePodUpdate, g.handle(requests, g.update)).Methods(http.MethodPost, http.MethodPut)
	router.PathPrefix(extensionPrefix).Handler(g.handle(streams, g.stream)).Methods(methods()...)
	router.Use(middleware...)
	return router
}

// methods: upstream's virtual kubelet deletes with DELETE and asks with GET, its
// published interface says POST everywhere, and its server never looks.
func methods() []string {
	return []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}
}

// Close ends the plugin's idle connections.
func (g *Gateway) Close() { g.plugin.http.CloseIdleConnections() }
