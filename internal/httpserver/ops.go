// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
	"context"
	"io"
	"net/http"
	"net/http/pprof" // served only when asked for, never by the default mux
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cloudveneto/caas/internal/logging"
)

// OpsConfig describes the operations port. It has no authentication: bind it to
// loopback or to an address that only the monitoring reaches.
type OpsConfig struct {
	Address string
	// Ready says why the program cannot do its work now; nil means always ready.
	Ready func(context.Context) error
	// Partly says what cannot be done though the program is ready; /readyz shows it. It MAY be nil.
	Partly func(context.Context) []string
	// Registry is what /metrics shows; nil serves none.
	Registry prometheus.Gatherer
	// Pprof adds /debug/pprof/.
	Pprof bool
}

// NewOps returns a server for /healthz, /readyz and /metrics.
func NewOps(cfg OpsConfig) (*Server, error) {
	router := mux.NewRouter()
	router.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	}).Methods(http.MethodGet, http.MethodHead)
	router.HandleFunc("/readyz", readyz(cfg)).Methods(http.MethodGet, http.MethodHead)
	if cfg.Registry != nil {
		router.Handle("/metrics", promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{})).Methods(http.MethodGet)
	}
	if cfg.Pprof {
		router.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		router.HandleFunc("/debug/pprof/profile", pprof.Profile)
		router.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		router.HandleFunc("/debug/pprof/trace", pprof.Trace)
		router.PathPrefix("/debug/pprof/").HandlerFunc(pprof.Index)
	}
	return New(Config{Name: "ops", Address: cfg.Address, Handler: router, MaxBody: 64 << 10, GracePeriod: 5 * time.Second})
}

func readyz(cfg OpsConfig) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		if cfg.Ready != nil {
			if err := cfg.Ready(ctx); err != nil {
				logging.From(ctx).DebugContext(ctx, "not ready", "error", err)
				http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		lines := []string{"ok\n"}
		if cfg.Partly != nil {
			for _, problem := range cfg.Partly(ctx) {
				lines = append(lines, "but: "+problem+"\n")
			}
		}
		_, _ = io.WriteString(w, strings.Join(lines, ""))
	}
}
