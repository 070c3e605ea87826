// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	defaultMaxAge = time.Hour
	// A denial is final: a kubelet asks again with the same key, and is given the same answer.
	// OpenStack may not answer for a while, so a request should wait as long as a machine may take to join.
	defaultPatience = 15 * time.Minute
	defaultRecheck  = 2 * time.Second
	// A request is looked at again after a part of its age, since each look lists all of them.
	recheckShare, recheckMost = 8, time.Minute
	defaultConcurrent         = 4
	// requestTimeout bounds the few requests that one decision takes.
	requestTimeout = 30 * time.Second

	// Indexes of the manager's cache. The names are this package's own: an index exists once.
	indexToken, indexNodeID = "csr.token", "csr.nodeid"
)

// Recorder records Events, in the manner of client-go's events package. It MUST NOT block.
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventType, reason, action, note string, args ...any)
}

// Config is what an Approver works with. Client, Reader and Recorder are required.
type Config struct {
	// Client reads from the manager's cache and writes.
	Client client.Client
	// Reader reads from the API server: what a decision is made by must be fresh.
	Reader client.Reader
	// Recorder records Events on OpenStackNodes.
	Recorder Recorder
	// Clock is the time; time.Now if nil.
	Clock func() time.Time
	// Limits are Patience 15 min, and MaxAge 1 h or twice as much as Patience, where they are 0. MaxAge MUST be
	// above Patience.
	Limits Limits
	// Recheck is how soon a request is looked at that has to wait, and then less and less often; 2 s if 0.
	Recheck time.Duration
	// Concurrent is how many requests are decided at once; 4 if 0.
	Concurrent int
	// Metrics, if given, gets the counter of decisions.
	Metrics prometheus.Registerer
}

// Approver decides about the CertificateSigningRequests of OpenStackNodes.
type Approver struct {
	cfg       Config
	decisions *prometheus.CounterVec
	// began is when the first request was looked at, in nanoseconds since 1970.
	began atomic.Int64
}

// since is when this process took the requests up.
func (a *Approver) since() time.Time {
	a.began.CompareAndSwap(0, a.cfg.Clock().UnixNano())
	return time.Unix(0, a.began.Load())
}

// New checks the configuration. It talks to nobody.
func New(cfg Config) (*Approver, error) {
	if cfg.Client == nil || cfg.Reader == nil || cfg.Recorder == nil {
		return nil, errors.New("approver of certificate signing requests: client, reader and recorder are required")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Limits.Patience == 0 {
		cfg.Limits.Patience = defaultPatience
	}
	if cfg.Limits.MaxAge == 0 {
		cfg.Limits.MaxAge = max(defaultMaxAge, 2*cfg.Limits.Patience)
	}
	if cfg.Limits.MaxAge <= cfg.Limits.Patience {
		return nil, fmt.Errorf("approver of certificate signing requests: a maximum age of %s is not above the patience of %s",
			cfg.Limits.MaxAge, cfg.Limits.Patience)
	}
	if cfg.Recheck == 0 {
		cfg.Recheck = defaultRecheck
	}
	if cfg.Concurrent == 0 {
		cfg.Concurrent = defaultConcurrent
	}
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "osn_csr_decisions_total",
		Help: "Certificate signing requests of OpenStackNodes that were approved or denied.",
	}, []string{"kind", "action", "reason"})
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(decisions); err != nil {
			return nil, fmt.Errorf("register metrics of certificate signing requests: %w", err)
		}
	}
	return &Approver{cfg: cfg, decisions: decisions}, nil
}

// SetupWithManager makes the manager run the approver while it leads.
func (a *Approver) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	indexer := mgr.GetFieldIndexer()
	for name, key := range Indexes() {
		if err := indexer.IndexField(ctx, &osnodev1.OpenStackNode{}, name, key); err != nil {
			return fmt.Errorf("index OpenStackNodes by %s: %w", name, err)
		}
	}
	undecided := predicate.NewPredicateFuncs(func(object client.Object) bool {
		request, isRequest := object.(*certificatesv1.CertificateSigningRequest)
		return isRequest && !decided(request) && Read(request).Kind != Stranger
	})
	err := ctrl.NewControllerManagedBy(mgr).Named("osnode-csr").
		For(&certificatesv1.CertificateSigningRequest{}, builder.WithPredicates(undecided)).
		WithOptions(controller.Options{MaxConcurrentReconciles: a.cfg.Concurrent}).
		Complete(a)
	if err != nil {
		return fmt.Errorf("set up the approver of certificate signing requests: %w", err)
	}
	return nil
}

// Indexes are the fields by which the cache that Client reads from has to find
// OpenStackNodes; SetupWithManager sees to that.
func Indexes() map[string]client.IndexerFunc {
	return map[string]client.IndexerFunc{
		indexToken:  valueOf(func(osn *osnodev1.OpenStackNode) string { return osn.Labels[osnodev1.LabelSecret] }),
		indexNodeID: valueOf(func(osn *osnodev1.OpenStackNode) string { return osn.Status.NodeID }),
	}
}

func valueOf(field func(*osnodev1.OpenStackNode) string) client.IndexerFunc {
	return func(object client.Object) []string {
		osn, isNode := object.(*osnodev1.OpenStackNode)
		if !isNode || field(osn) == "" {
			return nil
		}
		return []string{field(osn)}
	}
}
