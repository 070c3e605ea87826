// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/apply"
	"github.com/cloudveneto/caas/sidecar/plugin/claims"
	"github.com/cloudveneto/caas/sidecar/plugin/events"
	"github.com/cloudveneto/caas/sidecar/plugin/figures"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
	"github.com/cloudveneto/caas/sidecar/plugin/watch"
)

// sweepPeriod is how often records that the watch never confirmed are checked.
const sweepPeriod = 30 * time.Second

// Config says what a Plugin works with.
type Config struct {
	// Client reaches the target cluster. It SHOULD have no rate limit of its own:
	// the API server's priority and fairness is the limit that knows.
	Client kubernetes.Interface
	// LogClient reads logs; connections of its own keep a fast log from slowing
	// everything else. Default Client.
	LogClient kubernetes.Interface
	// Upgrades sends requests that take over their connection (exec, attach,
	// port-forward) to the target cluster, by HTTP/1.1 and with the sidecar's
	// credentials. Without it they are not offered.
	Upgrades http.RoundTripper
	Settings Settings
	// Origins are the clients that the plugin serves; its zero value is all. Requests of
	// others MUST NOT reach it.
	Origins watch.Origins
	// Registry takes the metrics.
	Registry prometheus.Registerer
	// ClaimPeriod is how often created claims are looked at that are not to be retained;
	// default 30 s.
	ClaimPeriod time.Duration
}

// Plugin answers interLink's plugin routes.
type Plugin struct {
	settings Settings
	logs     kubernetes.Interface
	upgrades http.RoundTripper
	table    *table.Table
	applier  *apply.Applier
	watcher  *watch.Watcher
	probe    *watch.Probe
	happened *events.Log
	measured *figures.Source
	metrics  *metrics
	claims   *claims.Keeper
	// creating bounds the creates that are worked on at once.
	creating chan struct{}
	bodies   bodies
	// sessions bounds the connections into pods that are open at once.
	sessions chan struct{}
}

// New returns a Plugin; Run starts it.
func New(config Config) (*Plugin, error) {
	if config.Client == nil || config.Registry == nil {
		return nil, errors.New("plugin: client and metrics registry are required")
	}
	if config.LogClient == nil {
		config.LogClient = config.Client
	}
	settings := config.Settings
	if err := settings.Complete(); err != nil {
		return nil, err
	}
	namespaces := settings.namespaces()
	known := table.New()
	watcher, err := watch.New(watch.Config{
		Client: config.Client, Table: known, Namespaces: namespaces, Selector: settings.Selector, VisibleNodes: settings.VisibleNodes,
		Capacity: settings.capacity(), Origins: config.Origins,
	})
	if err != nil {
		return nil, err
	}
	kept, err := claims.New(claims.Config{
		Client: config.Client, Table: known, Namespaces: namespaces, Selector: settings.Selector, Period: config.ClaimPeriod,
		Origins: config.Origins,
	})
	if err != nil {
		return nil, err
	}
	claimCreated, err := countClaims(config.Registry, kept)
	if err != nil {
		return nil, err
	}
	applier, err := apply.New(apply.Config{
		Client: config.Client, Table: known, Namespaces: namespaces, Selector: settings.Selector,
		Timeout: settings.RequestTimeout.Duration, TombstoneLife: settings.TombstoneLife.Duration,
		Share: settings.Share, Known: watcher.Synced, ClaimCreated: claimCreated,
	})
	if err != nil {
		return nil, err
	}
	measured, err := figures.New(figures.Config{
		Client: config.LogClient, Table: known, Namespaces: namespaces, Selector: settings.Selector,
	})
	if err != nil {
		return nil, err
	}
	happened, err := events.New(events.Config{
		Client: config.Client, Table: known, Namespaces: namespaces, Selector: settings.Selector,
	})
	if err != nil {
		return nil, err
	}
	counted, err := newMetrics(config.Registry, known, happened, settings.Share)
	if err != nil {
		return nil, err
	}
	return &Plugin{
		settings: settings, logs: config.LogClient, table: known, applier: applier, watcher: watcher,
		probe: watch.NewProbe(config.Client, namespaces), metrics: counted,
		creating: make(chan struct{}, settings.MaxCreates), bodies: newBodies(settings),
		claims: kept, happened: happened, measured: measured, upgrades: config.Upgrades, sessions: make(chan struct{}, settings.MaxSessions),
	}, nil
}

// Run follows the target cluster until ctx is done, then waits for the work that is
// under way.
func (p *Plugin) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.watcher.Run(ctx) })
	group.Go(func() error { return p.happened.Run(ctx) })
	group.Go(func() error { return p.sweep(ctx) })
	if p.settings.Policy.MakesClaims() {
		group.Go(func() error { return p.claims.Run(ctx) })
	}
	err := group.Wait()
	p.applier.Wait()
	return err
}

func (p *Plugin) sweep(ctx context.Context) error {
	ticker := time.NewTicker(sweepPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		bounded, cancel := context.WithTimeout(ctx, sweepPeriod)
		if err := p.applier.Sweep(bounded, time.Now().Add(-sweepPeriod)); err != nil && ctx.Err() == nil {
			logging.From(ctx).WarnContext(ctx, "unconfirmed pods not checked", "error", err)
		}
		cancel()
	}
}

// Ready returns nil when the plugin can do its work: it knows the created pods and
// the target cluster can be used.
func (p *Plugin) Ready(ctx context.Context) error {
	if err := p.probe.Usable(ctx); err != nil {
		return err // which is also why the pods are not known, if they are not
	}
	if !p.watcher.Synced() {
		return errors.New("the pods in the target cluster are not known yet")
	}
	return nil
}

// Handler returns the routes. Every route takes every method of the protocol,
// since senders differ.
func (p *Plugin) Handler() http.Handler {
	router := mux.NewRouter()
	for path, handler := range map[string]http.HandlerFunc{
		interlink.PathCreate: p.create,
		interlink.PathStatus: p.status,
		interlink.PathDelete: p.delete,
		interlink.PathLogs:   p.containerLog,
		interlink.PathWatch:  p.stream,
	} {
		router.HandleFunc(path, handler).Methods(http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete)
	}
	router.HandleFunc(interlink.RoutePodUpdate, p.update).Methods(http.MethodPost, http.MethodPut)
	router.HandleFunc(interlink.RouteEphemeral, p.ephemeral).Methods(http.MethodPost)
	router.HandleFunc(interlink.PathStats, p.stats).Methods(http.MethodGet)
	router.HandleFunc(interlink.RoutePodStream, p.session).Methods(http.MethodGet, http.MethodPost)
	router.Use(p.metrics.http.Mux, correlate)
	return router
}

// keyOf is the identity of the request's pod at its origin.
func keyOf(r *http.Request, uid string) table.Key {
	return table.Key{Origin: originOf(r), UID: uid}
}

func originOf(r *http.Request) string {
	return translate.OriginLabel(r.Header.Get(interlink.HeaderClient))
}

// find returns the created pod of key, asking the target cluster itself when the
// table does not know it, or nil.
func (p *Plugin) find(ctx context.Context, key table.Key) (*corev1.Pod, error) {
	if pod := p.table.Lookup(key); pod != nil {
		return pod, nil
	}
	found, err := p.applier.Find(ctx, key.Origin, []string{key.UID})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// correlate gives a request's log lines its correlation id.
func correlate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := r.Header.Get(interlink.HeaderSession)
		if session == "" || len(session) > 128 {
			next.ServeHTTP(w, r)
			return
		}
		ctx := r.Context()
		next.ServeHTTP(w, r.WithContext(logging.Into(ctx, logging.From(ctx).With("session", session))))
	})
}

// bodyError answers a request whose body could not be read.
func bodyError(w http.ResponseWriter, err error) {
	code, text := httpserver.BodyError(err)
	http.Error(w, text, code)
}
