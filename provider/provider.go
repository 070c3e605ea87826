// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	corev1informers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider/bundle"
	"github.com/cloudveneto/caas/provider/follow"
	"github.com/cloudveneto/caas/provider/mirror"
)

// FarEnd runs the pods. Every method MUST honour ctx and MAY be called by many
// goroutines at once.
type FarEnd interface {
	// Create starts a pod; interlink.IsRefused tells whether an error is final.
	Create(ctx context.Context, request *interlink.CreateRequest) (interlink.Created, error)
	// Update says what a pod and its objects have become; interlink.IsRefused tells
	// whether an error is final for the pod, while its objects were taken over.
	Update(ctx context.Context, request *interlink.CreateRequest) error
	// Delete starts the deletion of a pod.
	Delete(ctx context.Context, pod *corev1.Pod) error
	// Status reports on pods; those it knows nothing of are left out.
	Status(ctx context.Context, pods []*corev1.Pod) ([]interlink.PodStatus, error)
	// Logs streams a container's log; the caller closes it.
	Logs(ctx context.Context, request interlink.LogRequest) (io.ReadCloser, error)
	// Watch calls handle for every event until the stream ends.
	Watch(ctx context.Context, request interlink.WatchRequest, handle func(interlink.StatusEvent) error) error
}

// Sessions opens connections into pods. Every method MAY be called by many
// goroutines at once.
type Sessions interface {
	// Exec runs a command until it ends or ctx is done; a command that fails is a
	// k8s.io/utils/exec.ExitError, unwrapped.
	Exec(ctx context.Context, terminal *interlink.Terminal) error
	// Attach connects to a container's main process until it ends or ctx is done.
	Attach(ctx context.Context, terminal *interlink.Terminal) error
	// Forwarder reaches the ports of the pod with a UID; the caller closes it.
	Forwarder(uid string) *interlink.Forwarder
}

// Bundler collects what a pod references.
type Bundler interface {
	// Collect returns the request that creates or updates pod at the far end. It does
	// not change pod. A bundle.MissingError is worth a retry, a bundle.RefusedError is not.
	Collect(ctx context.Context, pod *corev1.Pod, options bundle.Options) (*interlink.CreateRequest, error)
}

// Config is what a Provider needs.
type Config struct {
	// NodeName is the virtual node's name, ClusterID the origin cluster's identity.
	NodeName  string
	ClusterID string
	Client    kubernetes.Interface
	// Metadata follows the objects that pods reference; without it their changes do not
	// reach pods that run.
	Metadata metadata.Interface
	FarEnd   FarEnd
	// Sessions serves exec, attach and port-forward; without it there are none.
	Sessions Sessions
	// Debugger adds ephemeral containers; without it they are refused.
	Debugger Debugger
	Bundler  Bundler
	// Recorder receives the events that users see.
	Recorder record.EventRecorder
	// Metrics is where the provider registers its collectors; nil registers nowhere.
	Metrics prometheus.Registerer
	// OnNode is called for every report of the stream about the node itself.
	OnNode func(interlink.PingResponse)
	// Workers is how many pods are worked on at once; default 32.
	Workers int
	// Debounce is how long changes of a pod and of its objects are collected before the
	// far end is told; default 1 s.
	Debounce time.Duration
	// StatusInterval is the pause between polls of far ends without a stream; default 5 s.
	StatusInterval time.Duration
	// FirstStatusAfter is how long a pod of which there is nothing to be said but that its containers are about to be made may
	// stay without a status after the far end has taken it; default 2 s. One that runs by then costs the origin one request
	// less, which counts in a burst.
	FirstStatusAfter time.Duration
}

func (c *Config) complete() error {
	var problems []error
	require := func(ok bool, what string) {
		if !ok {
			problems = append(problems, fmt.Errorf("provider: %s is missing", what))
		}
	}
	require(c.NodeName != "", "NodeName")
	require(c.ClusterID != "", "ClusterID")
	require(c.Client != nil, "Client")
	require(c.FarEnd != nil, "FarEnd")
	require(c.Bundler != nil, "Bundler")
	require(c.Recorder != nil, "Recorder")
	if c.Workers == 0 {
		c.Workers = 32
	}
	if c.Debounce == 0 {
		c.Debounce = time.Second
	}
	if c.StatusInterval == 0 {
		c.StatusInterval = 5 * time.Second
	}
	if c.FirstStatusAfter == 0 {
		c.FirstStatusAfter = 2 * time.Second
	}
	if c.OnNode == nil {
		c.OnNode = func(interlink.PingResponse) {}
	}
	return errors.Join(problems...)
}

// features is what the far end can do beyond upstream.
type features struct {
	stream, references, idempotent bool
	update                         bool
	exec, attach, forward          bool
	events, ephemeral, stats       bool
	claims                         bool
}

// claimsTold is what is told of the claims of a pod whose create failed so many times.
// The Node authorizer refuses to read a claim until it has seen the pod; who is refused
// for longer than that does not have the right.
func (f *features) claimsTold(failures int) bundle.Claims {
	switch {
	case !f.claims:
		return bundle.ClaimsNot
	case failures < tellReadsAfter:
		return bundle.ClaimsWanted
	default:
		return bundle.ClaimsIfAllowed
	}
}

// Provider implements virtual-kubelet's PodLifecycleHandler and PodNotifier.
type Provider struct {
	cfg     Config
	metrics *metrics
	factory informers.SharedInformerFactory
	pods    corev1informers.PodInformer
	lister  corev1listers.PodLister
	table   *table
	mirror  *mirror.Mirror
	// work brings pods further; dirty reports their status to the origin.
	work  workqueue.TypedRateLimitingInterface[types.UID]
	dirty workqueue.TypedDelayingInterface[types.UID]
	// attempts are the steps that work is at.
	attempts attempts
	// follower knows the versions of the objects that pods reference; nil without Metadata.
	follower *follow.Follower
	// features is nil until the far end answered its first ping.
	features atomic.Pointer[features]
	// known is closed with the first features.
	known     chan struct{}
	knownOnce sync.Once
	// answered has an element after a ping that was answered.
	answered chan struct{}
	ready    atomic.Bool
	// inStep is true while the status stream tells of everything that happens.
	inStep atomic.Bool

	mu     sync.Mutex
	notify func(*corev1.Pod)
	// tellings counts the statuses that were handed over.
	tellings atomic.Uint64
}

// New returns a provider that does nothing before Run.
func New(cfg Config) (*Provider, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	p := &Provider{cfg: cfg, table: newTable(), known: make(chan struct{}), answered: make(chan struct{}, 1)}
	if cfg.Metadata != nil {
		follower, err := follow.New(follow.Config{Client: cfg.Metadata, Changed: p.objectChanged})
		if err != nil {
			return nil, err
		}
		p.follower = follower
	}
	p.work = workqueue.NewTypedRateLimitingQueue[types.UID](newBackoff())
	p.dirty = workqueue.NewTypedDelayingQueue[types.UID]()
	figures, err := newMetrics(cfg.Metrics, p.sizes())
	if err != nil {
		return nil, err
	}
	p.metrics = figures
	if p.mirror, err = mirror.New(mirror.Config{Client: cfg.Client, Node: cfg.NodeName, Metrics: cfg.Metrics}); err != nil {
		return nil, err
	}
	p.factory = informers.NewSharedInformerFactoryWithOptions(cfg.Client, 0,
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", cfg.NodeName).String()
		}),
		informers.WithTransform(dropManagedFields))
	p.pods = p.factory.Core().V1().Pods()
	p.lister = p.pods.Lister()
	return p, nil
}

// dropManagedFields halves what the cache holds. It is also needed for safety:
// the library compares pods field by field, and managed fields have private ones.
func dropManagedFields(object any) (any, error) {
	if pod, ok := object.(*corev1.Pod); ok {
		pod.ManagedFields = nil
	}
	return object, nil
}

// Offer tells what the far end can do; it is called for every successful ping.
func (p *Provider) Offer(ping interlink.PingResponse) {
	next := &features{
		stream:     ping.Has(interlink.ExtensionStatusStream),
		references: ping.Has(interlink.ExtensionReferences),
		idempotent: ping.Has(interlink.ExtensionIdempotent),
		update:     ping.Has(interlink.ExtensionUpdate),
		exec:       ping.Has(interlink.ExtensionExec),
		attach:     ping.Has(interlink.ExtensionAttach),
		forward:    ping.Has(interlink.ExtensionPortForward),
		events:     ping.Has(interlink.ExtensionEvents),
		ephemeral:  ping.Has(interlink.ExtensionEphemeral),
		stats:      ping.Has(interlink.ExtensionStats),
		claims:     ping.Has(interlink.ExtensionClaims),
	}
	before := p.features.Swap(next)
	p.knownOnce.Do(func() { close(p.known) })
	select {
	case p.answered <- struct{}{}:
	default:
	}
	if before == nil || *before != *next {
		for _, uid := range p.table.uids() {
			p.work.Add(uid)
		}
	}
}

// OffersStats reports whether the far end can be asked what pods use.
func (p *Provider) OffersStats() bool {
	can := p.features.Load()
	return can != nil && can.stats
}

// Ready reports whether the provider has seen the origin's pods and works on them.
func (p *Provider) Ready() bool { return p.ready.Load() }

// Run works until ctx is done. Nothing is deleted when it ends.
func (p *Provider) Run(ctx context.Context) error {
	registration, err := p.pods.Informer().AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    p.onAdd,
		UpdateFunc: p.onUpdate,
		DeleteFunc: p.onDelete,
	})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	controller, err := p.newPodController()
	if err != nil {
		return err
	}
	p.factory.Start(ctx.Done())
	defer p.factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return context.Cause(ctx)
	}
	logging.From(ctx).Info("pods of the node are known", "pods", len(p.table.uids()))
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		p.work.ShutDown()
		p.dirty.ShutDown()
	})
	defer stop()
	for range p.cfg.Workers {
		group.Go(func() error { p.workLoop(ctx); return nil })
	}
	for range max(2, p.cfg.Workers/4) {
		group.Go(func() error { p.publishLoop(ctx); return nil })
	}
	group.Go(func() error { p.statusLoop(ctx); return nil })
	if p.follower != nil {
		group.Go(func() error { return p.follower.Run(ctx) })
	}
	group.Go(func() error { return p.mirror.Run(ctx) })
	group.Go(func() error { return p.runPodController(ctx, controller) })
	p.ready.Store(true)
	defer p.ready.Store(false)
	return group.Wait()
}
