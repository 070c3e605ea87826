// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	// ConfigMapName is where the totals are kept, in the controller's namespace.
	ConfigMapName = "osnode-usage"
	dataKey       = "usage.json"

	defaultInterval = time.Minute
	requestTimeout  = 20 * time.Second
)

// Config is what a Meter works with. Client, Reader, Namespace and Metrics are required.
type Config struct {
	// Client reads OpenStackNodes from the manager's cache, and writes the ConfigMap.
	Client client.Client
	// Reader reads the ConfigMap from the API server.
	Reader client.Reader
	// Namespace is the controller's own.
	Namespace string
	// Interval is how often is counted; a minute if 0.
	Interval time.Duration
	// StoppedCounts makes stopped machines count: they keep their place in the quota, and on
	// many clouds their host.
	StoppedCounts bool
	// Clock is the time; time.Now if nil.
	Clock   func() time.Time
	Metrics prometheus.Registerer
}

// Meter counts while its process leads. It is a runnable of a controller-runtime manager.
type Meter struct {
	cfg Config

	mu     sync.Mutex
	totals map[Account]Total // what is exported; nil until this process counts
	known  map[string]bool   // as in Ledger, from the last count
}

// New checks the configuration and registers the metrics. It talks to nobody.
func New(cfg Config) (*Meter, error) {
	if cfg.Client == nil || cfg.Reader == nil || cfg.Namespace == "" || cfg.Metrics == nil {
		return nil, errors.New("usage: client, reader, namespace and metrics are required")
	}
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	meter := &Meter{cfg: cfg}
	if err := cfg.Metrics.Register(collector{meter}); err != nil {
		return nil, fmt.Errorf("register metrics of usage: %w", err)
	}
	return meter, nil
}

// NeedLeaderElection makes the manager start only one Meter of a cluster.
func (m *Meter) NeedLeaderElection() bool { return true }

// Start counts until ctx is done. The manager's cache MUST have synced. That the totals
// cannot be kept is logged, and tried again: it harms nothing unless the process ends.
func (m *Meter) Start(ctx context.Context) error {
	ticker := time.NewTicker(m.cfg.Interval)
	defer ticker.Stop()
	defer m.publish(Ledger{})
	for {
		if err := m.Count(ctx); err != nil && ctx.Err() == nil {
			logging.From(ctx).ErrorContext(ctx, "count usage", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Count brings the kept totals up to date and exports them. The ConfigMap is read each
// time: should two processes ever count at once, one of them finds a conflict and counts
// nothing twice.
func (m *Meter) Count(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var nodes osnodev1.OpenStackNodeList
	if err := m.cfg.Client.List(ctx, &nodes); err != nil {
		return fmt.Errorf("list OpenStackNodes: %w", err)
	}
	kept, err := m.load(ctx)
	if err != nil {
		return err
	}
	ledger, err := decode(kept)
	if err != nil {
		return err
	}
	_, ledger.Known = m.state()
	ledger.Accrue(nodes.Items, m.cfg.Clock(), m.cfg.StoppedCounts)
	if err := m.keep(ctx, kept, ledger); err != nil {
		return err
	}
	m.publish(ledger)
	return nil
}

// load returns nil when there is no ConfigMap yet.
func (m *Meter) load(ctx context.Context) (*corev1.ConfigMap, error) {
	kept := &corev1.ConfigMap{}
	err := m.cfg.Reader.Get(ctx, types.NamespacedName{Namespace: m.cfg.Namespace, Name: ConfigMapName}, kept)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read kept usage: %w", err)
	default:
		return kept, nil
	}
}

// decode does not take unreadable totals for none: they would be overwritten.
func decode(kept *corev1.ConfigMap) (Ledger, error) {
	if kept == nil || kept.Data[dataKey] == "" {
		return Ledger{}, nil
	}
	return Decode(kept.Data[dataKey])
}

func (m *Meter) keep(ctx context.Context, kept *corev1.ConfigMap, ledger Ledger) error {
	text, err := ledger.Encode()
	if err != nil {
		return err
	}
	if kept == nil {
		kept = &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: m.cfg.Namespace, Name: ConfigMapName},
			Data:       map[string]string{dataKey: text},
		}
		if err := m.cfg.Client.Create(ctx, kept); err != nil {
			return fmt.Errorf("keep usage: %w", err)
		}
		return nil
	}
	// An update, not a patch: it fails when somebody else has counted since it was read.
	kept.Data = map[string]string{dataKey: text}
	if err := m.cfg.Client.Update(ctx, kept); err != nil {
		return fmt.Errorf("keep usage: %w", err)
	}
	return nil
}

// publish keeps the ledger's maps, which nobody changes any more.
func (m *Meter) publish(ledger Ledger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.totals, m.known = ledger.Totals, ledger.Known
}

func (m *Meter) state() (totals map[Account]Total, known map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.totals, m.known
}
