// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// TurnMissed is turnMissed, for tests.
const TurnMissed = turnMissed

// Turns is turns, for tests.
type Turns struct{ turns turns }

// NewTurns makes Turns for so many at a time.
func NewTurns(free int, called func(reconcile.Request)) *Turns {
	return &Turns{turns: turns{free: free, called: called}}
}

// Take is take. The object's name is its UID.
func (t *Turns) Take(uid types.UID, now time.Time) (time.Duration, bool) {
	return t.turns.take(uid, reconcile.Request{NamespacedName: types.NamespacedName{Name: string(uid)}}, now)
}

// Leave is leave.
func (t *Turns) Leave() { t.turns.leave() }

// Drop is drop.
func (t *Turns) Drop(uid types.UID) { t.turns.drop(uid) }
