// SPDX-License-Identifier: Apache-2.0

package virtualnode

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
)

// Pinger is the far end's health probe.
type Pinger interface {
	// Ping fails unless the far end is usable.
	Ping(ctx context.Context) (interlink.PingResponse, error)
}

// Config is what a Node needs.
type Config struct {
	Client kubernetes.Interface
	Far    Pinger
	Name   string
	// Address and Port are where the kubelet API is reached; Address may be empty.
	Address  string
	Port     int32
	Labels   map[string]string
	Taints   []corev1.Taint
	Capacity corev1.ResourceList
	PodCIDR  string
	// Version is shown as the kubelet's.
	Version string
	// PingInterval is the time between pings; default 5 s.
	PingInterval time.Duration
	// PingFailures is how many pings in a row fail before the node is not ready; default 3.
	PingFailures int
	// Metrics is where the node registers its collector; nil registers nowhere.
	Metrics prometheus.Registerer
	// OnPing is called for every answered ping, before the node becomes ready.
	OnPing func(interlink.PingResponse)
}

// Node is one virtual node.
type Node struct {
	cfg  Config
	wake chan struct{}

	mu    sync.Mutex
	state state
	// server is the object as the API server last returned it.
	server *corev1.Node
	// stale: server has to be read again before it is compared with.
	stale bool
	// kept away: what an admission plugin forbade, so that it is tried once only.
	labelsForbidden bool
	taintsForbidden bool
}

// state is what the node should look like beyond its configuration.
type state struct {
	ready    bool
	reason   string
	message  string
	failures int
	pinged   bool
	capacity corev1.ResourceList
	// taints are the far end's; nil while it never said anything about taints.
	taints []corev1.Taint
	// labels are the far end's, while it offers to tell them; labelled says that it does.
	labels   map[string]string
	labelled bool
}

// New returns a node that does nothing before Run.
func New(cfg Config) (*Node, error) {
	if cfg.Client == nil || cfg.Far == nil || cfg.Name == "" {
		return nil, errors.New("virtual node: Client, Far and Name are required")
	}
	if cfg.PingInterval == 0 {
		cfg.PingInterval = 5 * time.Second
	}
	if cfg.PingFailures == 0 {
		cfg.PingFailures = 3
	}
	if cfg.OnPing == nil {
		cfg.OnPing = func(interlink.PingResponse) {}
	}
	n := &Node{cfg: cfg, wake: make(chan struct{}, 1), state: state{
		reason: "FarEndNotReached", message: "the far end has not answered yet", capacity: maps.Clone(cfg.Capacity),
	}}
	if cfg.Metrics == nil {
		return n, nil
	}
	if err := cfg.Metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "virtual_kubelet_far_end_ready", Help: "1 when the far end can run pods, else 0: whether the virtual node is ready.",
	}, n.usable)); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return n, nil
}

// usable is Ready as a metric's value.
func (n *Node) usable() float64 {
	if n.Ready() {
		return 1
	}
	return 0
}

// Run registers the node and keeps it until ctx is done. The object stays.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { n.pingLoop(ctx); return nil })
	group.Go(func() error { n.syncLoop(ctx); return nil })
	group.Go(func() error { n.leaseLoop(ctx); return nil })
	return group.Wait()
}

// Ready reports whether the far end is usable.
func (n *Node) Ready() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.ready
}

// Registered reports whether the Node object exists.
func (n *Node) Registered() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server != nil
}

// Allocatable is what the node has to give.
func (n *Node) Allocatable() corev1.ResourceList {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.state.capacity)
}

// Offer takes in what the far end says of itself, in a ping or in a stream.
func (n *Node) Offer(report interlink.PingResponse) {
	n.mu.Lock()
	before := n.state
	if report.Resources != nil {
		n.state.capacity = merge(n.cfg.Capacity, report.Resources)
	}
	if report.Taints != nil {
		n.state.taints = taintsOf(*report.Taints)
	}
	if n.state.labelled {
		n.state.labels = labelsOf(report.Labels)
	}
	changed := !sameState(before, n.state)
	n.mu.Unlock()
	if changed {
		n.changed()
	}
}

// expectLabels takes in whether the far end offers to tell labels. Those of one that does
// not any more are given up.
func (n *Node) expectLabels(offered bool) {
	n.mu.Lock()
	given := !offered && len(n.state.labels) > 0
	if n.state.labelled = offered; !offered {
		n.state.labels = nil
	}
	n.mu.Unlock()
	if given {
		n.changed()
	}
}

// changed has the object brought up to date soon.
func (n *Node) changed() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// recheck is the longest time between pings of a far end that is not usable, so
// that the node is back soon after it.
const recheck = time.Second

func (n *Node) pingLoop(ctx context.Context) {
	for {
		n.ping(ctx)
		pause := n.cfg.PingInterval
		if !n.Ready() {
			pause = min(pause, recheck)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// ping probes the far end once. A hanging probe fails in time for the next one.
func (n *Node) ping(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, max(n.cfg.PingInterval, 10*time.Second))
	defer cancel()
	answer, err := n.cfg.Far.Ping(bounded)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		n.cfg.OnPing(answer)
		n.expectLabels(answer.Has(interlink.ExtensionNodeLabels))
		n.Offer(answer)
	}
	if n.judge(err) {
		n.changed()
		if err != nil {
			logging.From(ctx).Warn("far end is not usable", "error", err)
		} else {
			logging.From(ctx).Info("far end is usable")
		}
	}
}

// judge counts a ping's outcome and reports whether the node's readiness, or why it is not ready, changed.
func (n *Node) judge(err error) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.state
	if err == nil {
		n.state.failures, n.state.ready, n.state.pinged = 0, true, true
		n.state.reason, n.state.message = "FarEndUsable", "the far end answers"
	} else {
		n.state.failures++
		if !n.state.pinged || n.state.failures >= n.cfg.PingFailures {
			n.state.ready = false
			n.state.reason, n.state.message = "FarEndUnreachable", err.Error()
		}
	}
	return before.ready != n.state.ready || before.reason != n.state.reason || before.message != n.state.message
}

func now() metav1.Time { return metav1.Now().Rfc3339Copy() }
