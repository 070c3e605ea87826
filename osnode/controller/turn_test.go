// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cloudveneto/caas/osnode/controller"
)

// line is a queue of which a test knows who was called.
type line struct {
	*controller.Turns

	t      *testing.T
	now    time.Time
	called []string
}

func newLine(t *testing.T, free int) *line {
	t.Helper()
	l := &line{t: t, now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	l.Turns = controller.NewTurns(free, func(request reconcile.Request) { l.called = append(l.called, request.Name) })
	return l
}

func (l *line) gets(uid types.UID, waited time.Duration) {
	l.t.Helper()
	got, mine := l.Take(uid, l.now)
	require.True(l.t, mine, "%s has its turn", uid)
	assert.Equal(l.t, waited, got, "%s", uid)
}

func (l *line) waits(uids ...types.UID) {
	l.t.Helper()
	for _, uid := range uids {
		_, mine := l.Take(uid, l.now)
		require.False(l.t, mine, "%s waits", uid)
	}
}

func TestTurnsAreTakenInTheOrderOfArrival(t *testing.T) {
	t.Parallel()
	l := newLine(t, 2)
	l.gets("a", 0)
	l.gets("b", 0)
	l.waits("c", "d", "e")
	l.now = l.now.Add(time.Second)
	l.Leave()
	assert.Equal(t, []string{"c"}, l.called)
	l.waits("e", "d", "a")
	l.gets("c", time.Second)
	l.Leave()
	l.Leave()
	assert.Equal(t, []string{"c", "d", "d", "e"}, l.called)
	l.waits("a")
	l.gets("e", time.Second)
	l.gets("d", time.Second)
	l.waits("a")
	l.Leave()
	l.gets("a", 0)
}

// TestTurnsWaitForNobodyWhoDoesNotCome: an object whose passes end before it looks, or that is being deleted, holds nobody
// up, and the one keeps its place.
func TestTurnsWaitForNobodyWhoDoesNotCome(t *testing.T) {
	t.Parallel()
	l := newLine(t, 1)
	l.gets("a", 0)
	l.waits("away", "gone", "b", "c")
	l.Drop("gone")
	l.Drop("nobody")
	l.Leave()
	l.waits("b")
	l.now = l.now.Add(controller.TurnMissed)
	l.gets("b", controller.TurnMissed)
	l.waits("away", "c")
	l.Leave()
	l.waits("c")
	l.called = nil
	l.Drop("away")
	assert.Equal(t, []string{"c"}, l.called)
	l.gets("c", controller.TurnMissed)
}
