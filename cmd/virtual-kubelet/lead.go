// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/cloudveneto/caas/provider/settings"
)

// work is what only one process per virtual node may do at a time.
type work func(context.Context) error

// lead runs work, at once or, with leader election, as long as this process leads.
// The lock is given back only after work has ended, so that no two processes
// ever work.
func lead(ctx context.Context, origin kubernetes.Interface, leader settings.Leader, do work) error {
	if !leader.Enabled {
		return do(ctx)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, leader.Namespace, leader.Name,
		origin.CoreV1(), origin.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: fmt.Sprintf("%s_%d", host, os.Getpid())})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	electing, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	t := &term{wanted: ctx, release: release, do: do, ended: make(chan error, 1)}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		ReleaseOnCancel: true, Name: leader.Name,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: t.begin, OnStoppedLeading: func() {}},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	defer context.AfterFunc(ctx, t.giveUp)()
	elector.Run(electing)
	if !t.began() {
		return nil
	}
	lost := electing.Err() == nil
	if err := <-t.ended; err != nil || !lost {
		return err
	}
	return errors.New("leadership was lost")
}

// term is one time of leading.
type term struct {
	wanted  context.Context //nolint:containedctx // the elector's callback brings another one
	release func()
	do      work
	ended   chan error

	mu      sync.Mutex
	started bool
}

func (t *term) began() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.started
}

// giveUp ends the wait for leadership; work that has begun ends by itself.
func (t *term) giveUp() {
	if !t.began() {
		t.release()
	}
}

// begin works until leadership is lost or the program is to end.
func (t *term) begin(leading context.Context) {
	defer t.release()
	t.mu.Lock()
	t.started = true
	t.mu.Unlock()
	ctx, cancel := context.WithCancel(leading)
	defer cancel()
	defer context.AfterFunc(t.wanted, cancel)() //nolint:contextcheck // the other context that ends the work
	t.ended <- t.do(ctx)
}
