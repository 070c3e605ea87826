// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/sidecar/plugin/podstate"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// Config says what an Applier works with.
type Config struct {
	// Client reaches the target cluster.
	Client kubernetes.Interface
	Table  *table.Table
	// Namespaces are where created pods can be; "" is all of them.
	Namespaces []string
	// Selector is added to every list, for clusters that demand one.
	Selector string
	// Timeout bounds one operation with all its requests; default 1 minute.
	Timeout time.Duration
	// TombstoneLife is how long a deleted pod stays deleted; default 30 minutes.
	TombstoneLife time.Duration
	// TombstoneLimit bounds how many are remembered; default 100,000.
	TombstoneLimit int
	// Share is what the pods of one client may take together; what it does not name is
	// not limited.
	Share corev1.ResourceList
	// Known tells whether the table holds every pod, without which nobody knows what is
	// left of a share; required with Share.
	Known func() bool
	// ClaimCreated is called for each claim that was made; may be nil.
	ClaimCreated func()
}

// Applier creates and deletes pods. It may be used by many goroutines at once.
type Applier struct {
	config Config
	// running counts operations that outlive their caller.
	running sync.WaitGroup

	mu      sync.Mutex
	flights map[table.Key]*flight
	dead    *tombstones
}

// flight is a create that is under way; everyone who asks for the same pod shares it.
type flight struct {
	done chan struct{}
	// job and err are set before done is closed.
	job string
	err error
}

// New returns an Applier.
func New(config Config) (*Applier, error) {
	if config.Client == nil || config.Table == nil || len(config.Namespaces) == 0 {
		return nil, errors.New("apply: client, table and namespaces are required")
	}
	if len(config.Share) > 0 && config.Known == nil {
		return nil, errors.New("apply: a share needs to know whether the table is complete")
	}
	if config.Timeout == 0 {
		config.Timeout = time.Minute
	}
	if config.TombstoneLife == 0 {
		config.TombstoneLife = 30 * time.Minute
	}
	if config.TombstoneLimit == 0 {
		config.TombstoneLimit = 100_000
	}
	if config.ClaimCreated == nil {
		config.ClaimCreated = func() {}
	}
	return &Applier{
		config: config, flights: map[table.Key]*flight{},
		dead: newTombstones(config.TombstoneLife, config.TombstoneLimit),
	}, nil
}

// Wait returns when no operation is under way.
func (a *Applier) Wait() { a.running.Wait() }

// Known returns the job id of a pod that was created as a whole before; ok is
// false when Create has work to do, or to refuse.
func (a *Applier) Known(key table.Key) (job string, ok bool) {
	pod := a.config.Table.Lookup(key)
	if pod == nil || a.isDead(key) || (gate(pod) >= 0 && pod.DeletionTimestamp == nil) {
		return "", false
	}
	return podstate.JobID(pod), true
}

// Create makes the result's objects exist in namespace and returns the job id. Calls
// for one key share their work, which goes on when the callers leave. The error is
// ErrDeleted, a *ClusterError, or ctx's.
func (a *Applier) Create(ctx context.Context, key table.Key, namespace string, result translate.Result) (string, error) {
	a.mu.Lock()
	if a.dead.has(key, time.Now()) {
		a.mu.Unlock()
		return "", ErrDeleted
	}
	f, shared := a.flights[key]
	if !shared {
		f = &flight{done: make(chan struct{})}
		a.flights[key] = f
		a.running.Go(func() {
			detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.config.Timeout)
			defer cancel()
			a.fly(detached, f, key, namespace, result)
		})
	}
	a.mu.Unlock()
	select {
	case <-f.done:
		return f.job, f.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (a *Applier) fly(ctx context.Context, f *flight, key table.Key, namespace string, result translate.Result) {
	f.job, f.err = a.create(ctx, key, namespace, result)
	a.mu.Lock()
	delete(a.flights, key)
	a.mu.Unlock()
	close(f.done)
}

func (a *Applier) isDead(key table.Key) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dead.has(key, time.Now())
}

// bury marks key as deleted and returns the create that is under way, or nil.
func (a *Applier) bury(key table.Key) *flight {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dead.add(key, time.Now())
	return a.flights[key]
}
