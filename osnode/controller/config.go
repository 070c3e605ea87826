// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	// defaultWorkers are many because most wait for OpenStack, and news must not wait for them.
	defaultWorkers = 60
	// mostCreations is how many creations are under way at a time.
	mostCreations = 10
	// callsKept is how many calls of those whose turn it is may wait to be heard.
	callsKept = 100
)

// Config is what a Reconciler is made of.
type Config struct {
	// Client reads from a cache and writes; Reader asks the API server itself. Secrets and
	// pods are read only by Reader.
	Client client.Client
	Reader client.Reader
	// Recorder takes the Events.
	Recorder Recorder
	// Cloud is OpenStack.
	Cloud Cloud
	// UserData is what a machine gets to join with. An error is the spec's fault.
	UserData func(osn *osnodev1.OpenStackNode, token string) ([]byte, error)
	// Cluster names this cluster in OpenStack; Namespace is the controller's own.
	Cluster, Namespace string
	// DefaultProvider is the provider of nodes that name none.
	DefaultProvider string

	// Clock is time.Now if nil.
	Clock func() time.Time
	// Timers are DefaultTimers where 0.
	Timers Timers
	// Workers is how many nodes are worked on at a time; 60 if 0.
	Workers int
	// Metrics MAY be nil.
	Metrics prometheus.Registerer
}

// Recorder takes Events; events.EventRecorder of client-go is one.
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// Reconciler makes OpenStackNodes true.
type Reconciler struct {
	Config
	metrics   *metrics
	transient workqueue.TypedRateLimiter[reconcile.Request]
	// turns are for objects that have no machine and are on their way to one.
	turns *turns
	// calls are of those whose turn it is.
	calls chan event.GenericEvent

	mu sync.Mutex
	// What is remembered between passes is all cheap to lose: a new process asks again.
	memories map[types.UID]*memory
	// lastID is the time in the last node id.
	lastID int64
}

// memory is what a process remembers of an OpenStackNode.
type memory struct {
	// version is that of the object as this process has last written it.
	version uint64
	// woken tells that a back-off is over before its time.
	woken bool
	// tokenUntil is when the token's Secret expires.
	tokenUntil time.Time
	// idleSince is when the node was first seen without pods.
	idleSince time.Time
	// overhead is how long the controller itself has made the node wait.
	overhead time.Duration
	// queued is how long it has waited for its turn.
	queued time.Duration
	// asked is when the last request of this process for a machine had ended.
	asked time.Time
	// deleting is the condemned machine that OpenStack has been asked to delete.
	deleting string
	// started is when the machine was first seen to run.
	started time.Time
	// complete tells that this process has seen the node from its beginning.
	complete bool
}

// New makes a Reconciler. Its error names all that is missing.
func New(config Config) (*Reconciler, error) {
	var errs []error
	for what, missing := range map[string]bool{
		"Client": config.Client == nil, "Reader": config.Reader == nil, "Recorder": config.Recorder == nil,
		"Cloud": config.Cloud == nil, "UserData": config.UserData == nil,
		"Cluster": config.Cluster == "", "Namespace": config.Namespace == "", "DefaultProvider": config.DefaultProvider == "",
	} {
		if missing {
			errs = append(errs, fmt.Errorf("osnode controller: %s is missing", what))
		}
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.Workers == 0 {
		config.Workers = defaultWorkers
	}
	config.Timers = config.Timers.orDefault()
	numbers, err := newMetrics(config.Client, config.Metrics)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	calls := make(chan event.GenericEvent, callsKept)
	return &Reconciler{
		Config: config, metrics: numbers, memories: map[types.UID]*memory{}, calls: calls,
		turns: &turns{free: min(max(config.Workers/2, 1), mostCreations), called: caller(calls)},
		transient: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](
			config.Timers.RetryFirst, config.Timers.RetryMost),
	}, nil
}

// caller passes calls on. One that nobody takes is not missed: who waits looks by himself, only later.
func caller(calls chan<- event.GenericEvent) func(reconcile.Request) {
	return func(request reconcile.Request) {
		called := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: request.Namespace, Name: request.Name}}
		select {
		case calls <- event.GenericEvent{Object: called}:
		default:
		}
	}
}

// remember changes what is remembered of an OpenStackNode and returns a copy of it.
func (r *Reconciler) remember(uid types.UID, change func(*memory)) memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.memories[uid]
	if known == nil {
		known = &memory{}
		r.memories[uid] = known
	}
	if change != nil {
		change(known)
	}
	return *known
}

func (r *Reconciler) forget(uid types.UID) {
	r.turns.drop(uid)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.memories, uid)
}
