// SPDX-License-Identifier: Apache-2.0

package controller

import "time"

// Timers are how long everything may take, and how often it is looked at. Those that are
// 0 have DefaultTimers' value.
type Timers struct {
	// Create is from the request to ACTIVE, Join from ACTIVE to Ready.
	Create, Join time.Duration
	// TokenMargin is how much longer than both a bootstrap token is valid.
	TokenMargin time.Duration
	// Request is how long a request for a machine may be under way, and Settle for how long after its end the machine
	// may be missing from OpenStack's answers.
	Request, Settle time.Duration

	// PollCreating is how often a machine that is being made or deleted is looked at,
	// PollSlow the same after SlowAfter, PollRunning one that runs.
	PollCreating, PollSlow, SlowAfter, PollRunning time.Duration
	// AgeCreating and AgeRunning are how old the shared list may be then.
	AgeCreating, AgeRunning time.Duration

	// NotReadyGrace is how long a Node that is not Ready is still called running.
	NotReadyGrace time.Duration
	// Drain is for nodes whose spec has no drainTimeout. DrainForced is for the pods that
	// are deleted at its end, DrainUnready how long a node may be not Ready and still be drained.
	Drain, DrainForced, DrainUnready time.Duration
	// Detach is how long to wait for volumes.
	Detach time.Duration
	// DeleteAgain is when a deletion that has no effect is asked for once more, and when a
	// machine that stays may be abandoned. One that Nova has given up is asked for again after
	// a quarter of it.
	DeleteAgain time.Duration

	// RetryFirst and RetryMost bound the back-off when OpenStack does not answer.
	RetryFirst, RetryMost time.Duration
	// QuotaFirst and QuotaMost bound it when the project is full, HostFirst and HostMost
	// when no host takes the machine or it ends in error.
	QuotaFirst, QuotaMost, HostFirst, HostMost time.Duration
	// Recheck is for specs that name what does not exist, Authorization for owners who have
	// not authorised the platform.
	Recheck, Authorization time.Duration

	// Collect is how often orphans are looked for, OrphanAge how old they have to be. EmptyGrace
	// is how long there must have been no OpenStackNode at all before that is believed.
	Collect, OrphanAge, EmptyGrace time.Duration
}

// DefaultTimers returns the values of Timers that are not given.
func DefaultTimers() Timers {
	return Timers{
		Create: 10 * time.Minute, Join: 15 * time.Minute, TokenMargin: 5 * time.Minute,
		Request: 2 * time.Minute, Settle: 30 * time.Second,
		PollCreating: 2 * time.Second, PollSlow: 15 * time.Second, SlowAfter: 2 * time.Minute, PollRunning: time.Minute,
		AgeCreating: 1500 * time.Millisecond, AgeRunning: time.Minute,
		NotReadyGrace: 2 * time.Minute,
		Drain:         10 * time.Minute, DrainForced: time.Minute, DrainUnready: 5 * time.Minute,
		Detach: 2 * time.Minute, DeleteAgain: time.Minute,
		RetryFirst: time.Second, RetryMost: 5 * time.Minute,
		QuotaFirst: time.Minute, QuotaMost: 10 * time.Minute, HostFirst: time.Minute, HostMost: 15 * time.Minute,
		Recheck: 10 * time.Minute, Authorization: 5 * time.Minute,
		Collect: 5 * time.Minute, OrphanAge: 10 * time.Minute, EmptyGrace: time.Hour,
	}
}

func (t Timers) orDefault() Timers {
	defaults := DefaultTimers()
	own, standard := t.all(), defaults.all()
	for i, timer := range own {
		if *timer == 0 {
			*timer = *standard[i]
		}
	}
	return t
}

func (t *Timers) all() []*time.Duration {
	return []*time.Duration{
		&t.Create, &t.Join, &t.TokenMargin, &t.Request, &t.Settle,
		&t.PollCreating, &t.PollSlow, &t.SlowAfter, &t.PollRunning, &t.AgeCreating, &t.AgeRunning,
		&t.NotReadyGrace, &t.Drain, &t.DrainForced, &t.DrainUnready, &t.Detach, &t.DeleteAgain,
		&t.RetryFirst, &t.RetryMost, &t.QuotaFirst, &t.QuotaMost, &t.HostFirst, &t.HostMost,
		&t.Recheck, &t.Authorization, &t.Collect, &t.OrphanAge, &t.EmptyGrace,
	}
}
