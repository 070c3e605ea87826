// SPDX-License-Identifier: Apache-2.0

package tenants

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	component = "kube-mt-tenants"
	// workers make namespaces at a time.
	workers = 4
	// workTimeout bounds making one.
	workTimeout = 30 * time.Second
	// Waiting times after a failure.
	firstRetry, lastRetry = 200 * time.Millisecond, time.Minute
)

// Controller makes namespaces. It is safe for concurrent use.
type Controller struct {
	cfg     Config
	metrics *metrics
	queue   workqueue.TypedRateLimitingInterface[string] // of projects' ids
	events  record.EventRecorder

	mu sync.Mutex
	// names are those of projects whose members have logged in, which are to have a namespace.
	names map[string]string
	// done is when a project's namespace was last found complete.
	done map[string]time.Time
}

// New checks the configuration.
func New(cfg Config) (*Controller, error) {
	if cfg.Client == nil {
		return nil, errors.New("tenants: client is required")
	}
	cfg.complete()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("tenants: %w", err)
	}
	counted, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry)
	return &Controller{
		cfg: cfg, metrics: counted, queue: workqueue.NewTypedRateLimitingQueue(limiter),
		names: map[string]string{}, done: map[string]time.Time{},
	}, nil
}

// Seen tells that a member of a project has logged in. It does not wait; before Run and after its end it is remembered or
// forgotten.
func (c *Controller) Seen(project tenant.Project) {
	if project.ID == "" {
		return
	}
	c.mu.Lock()
	fresh := time.Since(c.done[project.ID]) < c.cfg.Resync
	if c.names[project.ID] == "" {
		c.names[project.ID] = project.Name
	}
	c.mu.Unlock()
	// One that fails is tried again by itself, after waiting longer each time: logins do not shorten that.
	if !fresh && c.queue.NumRequeues(project.ID) == 0 {
		c.queue.Add(project.ID)
	}
}

// Run makes namespaces until ctx is done.
func (c *Controller) Run(ctx context.Context) error {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	recording := broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c.cfg.Client.CoreV1().Events("")})
	defer recording.Stop()
	c.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component})

	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for c.next(ctx) {
			}
		})
	}
	c.resync(ctx)
	c.queue.ShutDown()
	running.Wait()
	return nil
}

func (c *Controller) next(ctx context.Context) bool {
	id, ended := c.queue.Get()
	if ended {
		return false
	}
	defer c.queue.Done(id)
	if ctx.Err() != nil {
		return true // the queue empties
	}
	c.mu.Lock()
	name, wanted := c.names[id]
	c.mu.Unlock()
	project := tenant.Project{ID: id, Name: name}
	limited, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	again, err := c.reconcile(limited, project, wanted)
	switch {
	case err != nil:
		c.metrics.reconciles.WithLabelValues(resultFailed).Inc()
		if ctx.Err() == nil {
			logging.From(ctx).ErrorContext(ctx, "namespace is not complete", "project", project.ID, "projectName", project.Name, "error", err)
		}
		c.queue.AddRateLimited(id)
	case again > 0:
		c.metrics.reconciles.WithLabelValues(resultLater).Inc()
		c.queue.Forget(id)
		c.queue.AddAfter(id, again)
	default:
		c.metrics.reconciles.WithLabelValues(resultDone).Inc()
		c.queue.Forget(id)
		c.finish(id)
	}
	return true
}

func (c *Controller) finish(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done[id] = time.Now()
}
