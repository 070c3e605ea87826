// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// Config says what is proxied. Server and Transport are required.
type Config struct {
	// Server is the API server's address: https://host:port.
	Server *url.URL
	// Transport reaches it. It MUST have no client certificate, or users would be whom that is of, and it MUST be able to
	// upgrade connections: see NewTransport.
	Transport http.RoundTripper
	// Policy says which resources have owners. It MUST be that of kube-mt-authz.
	Policy tenant.Policy
	// ListProject tells that kube-mt-authz lets members list what is of others, but for Sensitive resources: those are
	// written as resource.group, and are secrets when nil.
	ListProject bool
	Sensitive   []string
	Limits      Limits
	// Metrics, when not nil, registers what is counted.
	Metrics prometheus.Registerer
}

// Proxy is an http.Handler before an API server. It is safe for concurrent use.
type Proxy struct {
	rules    rules
	resolver request.RequestInfoResolver
	callers  *callers
	asker    asker
	statuses statuses
	metrics  *metrics
	reverse  *httputil.ReverseProxy
	routes   http.Handler
}

// New checks the configuration.
func New(cfg Config) (*Proxy, error) {
	if cfg.Server == nil || cfg.Server.Scheme == "" || cfg.Server.Host == "" || cfg.Server.Path != "" && cfg.Server.Path != "/" {
		return nil, errNoServer
	}
	if cfg.Transport == nil {
		return nil, errors.New("proxy: transport is required")
	}
	if err := cfg.Policy.Validate(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if cfg.Sensitive == nil {
		cfg.Sensitive = []string{"secrets"}
	}
	cfg.Limits.complete()
	counted, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	ask := asker{cfg.Server, cfg.Transport}
	known, err := newCallers(ask, cfg.Policy, counted, cfg.Limits)
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		rules: rules{cfg.Policy, cfg.ListProject, cfg.Sensitive}, callers: known, asker: ask, statuses: newStatuses(), metrics: counted,
		// Prefixes are those of kube-apiserver.
		resolver: &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")},
	}
	p.reverse = p.newReverse(cfg.Transport)
	p.routes = p.newRoutes()
	return p, nil
}

// newRoutes leaves paths as they are: what is wrong with one, the API server says.
func (p *Proxy) newRoutes() http.Handler {
	router := mux.NewRouter().SkipClean(true).UseEncodedPath()
	router.HandleFunc(PathWhoAmI, p.whoAmI).Methods(http.MethodGet)
	router.PathPrefix("/mt/").HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, apierrors.NewGenericServerResponse(http.StatusNotFound, "", notFoundResource(), "", "the proxy has no such path", 0, false))
	})
	for _, health := range []string{"/livez", "/readyz", "/healthz"} {
		router.HandleFunc(health, p.health).Methods(http.MethodGet, http.MethodHead)
	}
	router.PathPrefix("/").HandlerFunc(p.pass)
	return router
}

// ServeHTTP answers a request: itself, or by the API server.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.routes.ServeHTTP(w, r) }

// health is for load balancers, which have no token: the proxy is as well as the API server.
func (p *Proxy) health(w http.ResponseWriter, r *http.Request) {
	if bearer(r.Header) != "" {
		p.pass(w, r)
		return
	}
	ctx := withExchange(r.Context(), &exchange{info: &request.RequestInfo{Path: r.URL.Path}})
	p.reverse.ServeHTTP(w, r.WithContext(ctx))
}

// buffers lends the memory through which answers go.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func newBuffers() *buffers {
	return &buffers{pool: sync.Pool{New: func() any { return new([bufferSize]byte) }}}
}

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	buffer, _ := b.pool.Get().(*[bufferSize]byte)
	return buffer[:]
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(buffer []byte) {
	if len(buffer) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(buffer))
	}
}
