// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// Cloud is OpenStack as this package needs it. Its methods MAY be called at the same
// time and return within a bounded time; their errors are *cloud.Error.
type Cloud interface {
	// Settings are a provider's; it asks nobody.
	Settings(provider string) (cloud.Settings, error)
	// Flavor is a flavor of the account's region, by name.
	Flavor(ctx context.Context, account cloud.Account, name string) (cloud.Flavor, error)
	// Quota are the limits of the account's project and what is used of them.
	Quota(ctx context.Context, account cloud.Account) (cloud.Quota, error)
}

// Recorder takes Events; events.EventRecorder of client-go is one.
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// Config is what Pools are made of.
type Config struct {
	// Client reads from the manager's cache, and writes; Reader asks the API server itself.
	Client client.Client
	Reader client.Reader
	// Recorder takes the Events.
	Recorder Recorder
	// Cloud is OpenStack.
	Cloud Cloud
	// DefaultProvider is the provider of pools that name none.
	DefaultProvider string

	// Clock is time.Now if nil.
	Clock func() time.Time
	// Timers are DefaultTimers where 0.
	Timers Timers
	// Reserve is what machines keep for themselves; DefaultReserve if zero.
	Reserve Reserve
	// Workers is how many pools are worked on at a time; 10 if 0.
	Workers int
}

// Timers are how long things take, at most or at least.
type Timers struct {
	// PendingAge is how long a pod must have been unschedulable to count.
	PendingAge time.Duration
	// BatchIdle is how long no further pod must come before a decision; BatchMost is how long
	// a decision waits for that.
	BatchIdle, BatchMost time.Duration
	// Rescan is how often the pods that wait are looked at although nothing happened.
	Rescan time.Duration
	// IdleTTL is how long a node is without pods before it goes, where a pool does not say.
	IdleTTL time.Duration
	// Retire is how long a node has been closed to pods before it goes, so that a pod that was
	// being put there is seen.
	Retire time.Duration
	// Join is how long a machine may take to become a node that counts on.
	Join time.Duration
	// Settle is how long the scheduler gets to use the room that it seems to have; the pods
	// that still wait then get another machine.
	Settle time.Duration
	// BackoffFirst and BackoffMost are how long a flavor is not tried that could not be had.
	BackoffFirst, BackoffMost time.Duration
	// FlavorAge is how long what a flavor has is remembered.
	FlavorAge time.Duration
	// Repeat is how often a pod is told the same again.
	Repeat time.Duration
}

// DefaultTimers are the timers of production.
func DefaultTimers() Timers {
	return Timers{
		PendingAge: 2 * time.Second, BatchIdle: 250 * time.Millisecond, BatchMost: 750 * time.Millisecond, Rescan: 10 * time.Second,
		IdleTTL: 10 * time.Minute, Retire: 2 * time.Second, Join: 30 * time.Minute, Settle: 30 * time.Second,
		BackoffFirst: 5 * time.Minute, BackoffMost: 30 * time.Minute, FlavorAge: 10 * time.Minute, Repeat: 10 * time.Minute,
	}
}

func (t Timers) orDefault() Timers {
	d := DefaultTimers()
	for _, timer := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&t.PendingAge, d.PendingAge},
		{&t.BatchIdle, d.BatchIdle},
		{&t.BatchMost, d.BatchMost},
		{&t.Rescan, d.Rescan},
		{&t.IdleTTL, d.IdleTTL},
		{&t.Retire, d.Retire},
		{&t.Join, d.Join},
		{&t.Settle, d.Settle},
		{&t.BackoffFirst, d.BackoffFirst},
		{&t.BackoffMost, d.BackoffMost},
		{&t.FlavorAge, d.FlavorAge},
		{&t.Repeat, d.Repeat},
	} {
		if *timer.value == 0 {
			*timer.value = timer.fallback
		}
	}
	return t
}

// Reserve is what a machine has, but not for pods.
type Reserve struct {
	// MilliCPU and MemoryMiB are what kubelet and system keep, MemoryPercent what the kernel
	// keeps of the flavor's memory besides.
	MilliCPU, MemoryMiB, MemoryPercent int64
	// DiskPercent is what is not for pods of the disk that holds their images and files.
	DiskPercent int64
	// Pods is how many pods a node takes.
	Pods int64
}

// DefaultReserve is on the safe side: a pod that nearly fits is better refused than a
// machine made for it in vain. A node that is Ready corrects it for all others of its
// pool and flavor.
func DefaultReserve() Reserve {
	return Reserve{MilliCPU: 200, MemoryMiB: 512, MemoryPercent: 4, DiskPercent: 20, Pods: 110}
}

const (
	defaultWorkers = 10
	// newsAhead is how many news may wait; what does not fit is seen when the pool is looked at next.
	newsAhead = 1024
)

// Pools are the two loops.
type Pools struct {
	Config
	memory *memory
	pokes  chan struct{}
	// news are pools of which a decision says something new; their status has to tell.
	news chan event.GenericEvent
}

// New makes Pools. Its error names all that is missing.
func New(config Config) (*Pools, error) {
	var errs []error
	for what, missing := range map[string]bool{
		"Client": config.Client == nil, "Reader": config.Reader == nil, "Recorder": config.Recorder == nil,
		"Cloud": config.Cloud == nil, "DefaultProvider": config.DefaultProvider == "",
	} {
		if missing {
			errs = append(errs, fmt.Errorf("node pools: %s is missing", what))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.Workers == 0 {
		config.Workers = defaultWorkers
	}
	if config.Reserve == (Reserve{}) {
		config.Reserve = DefaultReserve()
	}
	config.Timers = config.Timers.orDefault()
	return &Pools{Config: config, memory: newMemory(), pokes: make(chan struct{}, 1), news: make(chan event.GenericEvent, newsAhead)}, nil
}
