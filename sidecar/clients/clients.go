// SPDX-License-Identifier: Apache-2.0

// Package clients tells the clients of a plugin apart: it hands each request to what
// serves its client, and refuses those that nobody serves. Who a client is the interLink
// API has found out; it says so in the header interlink.HeaderClient.
//
//	router, err := clients.New(clients.Config{Served: map[string]clients.Service{"af": naples, clients.Others: everyone}})
//
// It imports internal packages only.
package clients

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
)

const (
	// Others is the name under which clients are served that have no name of their own here.
	Others = "*"
	// Nameless is the client of requests that name none, as of an interLink API without
	// authentication or of upstream's.
	Nameless = "default"
	// readyTimeout bounds one question to all services.
	readyTimeout = 5 * time.Second
	// maxShown bounds what is repeated of a name.
	maxShown = 100
)

// Service serves one client, or Others.
type Service interface {
	http.Handler
	// Ready tells why nothing can be done for the client now. It MAY be called by many
	// at once and ends with ctx.
	Ready(ctx context.Context) error
}

// Config says whom a Router serves.
type Config struct {
	Served map[string]Service
	// Registry takes the metrics.
	Registry prometheus.Registerer
}

// Router hands requests to services.
type Router struct {
	served  map[string]Service
	unknown prometheus.Counter
}

// New returns a Router.
func New(config Config) (*Router, error) {
	if len(config.Served) == 0 || config.Registry == nil {
		return nil, errors.New("clients: somebody to serve and a metrics registry are required")
	}
	r := &Router{
		served: config.Served,
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "caas_sidecar_unknown_clients_total", Help: "Requests that were refused because nobody serves their client.",
		}),
	}
	if err := errors.Join(config.Registry.Register(r.unknown), config.Registry.Register(readiness{r})); err != nil {
		return nil, fmt.Errorf("metrics of clients: %w", err)
	}
	return r, nil
}

// ServeHTTP implements http.Handler.
func (r *Router) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	name := request.Header.Get(interlink.HeaderClient)
	if name == "" && request.Header.Get(interlink.HeaderProbe) != "" && request.URL.Path == interlink.PathStatus {
		r.probe(w, request)
		return
	}
	if name == "" {
		name = Nameless
	}
	service := r.of(name)
	if service == nil {
		r.unknown.Inc()
		ctx := request.Context()
		logging.From(ctx).WarnContext(ctx, "client refused", "client", shown(name), "path", request.URL.Path)
		http.Error(w, fmt.Sprintf("the site does not know the client %q; ask it to add this name to the clients of its interLink plugin", shown(name)),
			http.StatusForbidden)
		return
	}
	service.ServeHTTP(w, request)
}

// of is who serves a client, or nil.
func (r *Router) of(name string) Service { //nolint:ireturn // it is one of those that were given
	if service, found := r.served[name]; found {
		return service
	}
	return r.served[Others]
}

func shown(name string) string {
	if len(name) <= maxShown {
		return name
	}
	return strings.ToValidUTF8(name[:maxShown], "") + "…"
}

// probe answers the interLink API's question for itself, which is no client's: whether
// there is anybody for whom something can be done.
func (r *Router) probe(w http.ResponseWriter, request *http.Request) {
	if err := r.Ready(request.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"ok"}`))
}

// Ready returns nil when something can be done for one client at least.
func (r *Router) Ready(ctx context.Context) error {
	problems := r.ask(ctx)
	told := make([]string, 0, len(problems))
	for _, name := range slices.Sorted(maps.Keys(problems)) {
		if problems[name] == nil {
			return nil
		}
		told = append(told, sentence(name, problems[name]))
	}
	return errors.New(strings.Join(told, "; "))
}

// Problems are sentences about the clients for whom nothing can be done now.
func (r *Router) Problems(ctx context.Context) []string {
	var told []string
	problems := r.ask(ctx)
	for _, name := range slices.Sorted(maps.Keys(problems)) {
		if problems[name] != nil {
			told = append(told, sentence(name, problems[name]))
		}
	}
	return told
}

func sentence(name string, err error) string { return fmt.Sprintf("client %q: %s", name, err) }

// ask asks all services at once why nothing can be done.
func (r *Router) ask(ctx context.Context) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var mu sync.Mutex
	problems := make(map[string]error, len(r.served))
	var asking sync.WaitGroup
	for name, service := range r.served {
		asking.Go(func() {
			err := service.Ready(ctx)
			mu.Lock()
			defer mu.Unlock()
			problems[name] = err
		})
	}
	asking.Wait()
	return problems
}
