// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"context"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// moment is an OpenStackNode as it was, in the words that users see.
type moment struct {
	Phase       osnodev1.Phase
	Description string
	NodeID      string
}

// history is what all OpenStackNodes have been through.
type history struct {
	client client.WithWatch
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	moments map[types.UID][]moment
}

func newHistory(c client.WithWatch) *history {
	ctx, stop := context.WithCancel(context.Background())
	h := &history{client: c, stop: stop, done: make(chan struct{}), moments: map[types.UID][]moment{}}
	go h.run(ctx)
	return h
}

func (h *history) close() {
	h.stop()
	<-h.done
}

// run watches, and begins again when the API server was away.
func (h *history) run(ctx context.Context) {
	defer close(h.done)
	for ctx.Err() == nil {
		watching, err := h.client.Watch(ctx, &osnodev1.OpenStackNodeList{})
		if err != nil {
			pause(ctx, interval)
			continue
		}
		for event := range watching.ResultChan() {
			if osn, ok := event.Object.(*osnodev1.OpenStackNode); ok && event.Type != watch.Deleted {
				h.note(osn)
			}
		}
		watching.Stop()
	}
}

func (h *history) note(osn *osnodev1.OpenStackNode) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := moment{osn.Status.Phase, osn.Status.Description, osn.Status.NodeID}
	known := h.moments[osn.UID]
	if now.Phase != "" && (len(known) == 0 || known[len(known)-1] != now) {
		h.moments[osn.UID] = append(known, now)
	}
}

// of are the moments of an OpenStackNode, each different from the one before.
func (h *history) of(uid types.UID) []moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.moments[uid])
}

// phases are the phases of an OpenStackNode, each different from the one before.
func (h *history) phases(uid types.UID) []osnodev1.Phase {
	var all []osnodev1.Phase
	for _, one := range h.of(uid) {
		if len(all) == 0 || all[len(all)-1] != one.Phase {
			all = append(all, one.Phase)
		}
	}
	return all
}

// said tells that an OpenStackNode had a description at some time.
func (h *history) said(uid types.UID, description string) bool {
	return slices.ContainsFunc(h.of(uid), func(m moment) bool { return m.Description == description })
}
