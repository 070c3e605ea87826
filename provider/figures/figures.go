// SPDX-License-Identifier: Apache-2.0

package figures

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
)

const (
	// life is how long an answer of the far end counts; it has its own, longer, memory.
	life = 5 * time.Second
	// stale is how old a sample may be: after that a pod counts as not measured.
	stale = 5 * time.Minute
	// young containers have used their first sample's rate since they started.
	young = 2 * time.Minute
	// least is what a counter starts from: readers take zero for "not measured", and no
	// container starts without using anything.
	least = 0.001
)

// Source is the far end.
type Source interface {
	// Stats tells what the pods of a virtual node use.
	Stats(ctx context.Context, request interlink.WatchRequest) (interlink.StatsResponse, error)
}

// Config is what Figures need.
type Config struct {
	Source Source
	// Offered reports whether the far end can be asked.
	Offered func() bool
	// Pods are the origin's pods of the node; they MUST NOT be changed.
	Pods          func(context.Context) ([]*corev1.Pod, error)
	Cluster, Node string
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Figures knows what the node's pods use. It may be used by many goroutines at once.
type Figures struct {
	cfg    Config
	begun  time.Time
	asking singleflight.Group

	mu    sync.Mutex
	asked time.Time
	pods  map[types.UID]*pod
	// node is the sum over all pods, also of those that have gone.
	node usage
}

// pod is one pod with what was measured of it.
type pod struct {
	namespace, name string
	uid             types.UID
	started         time.Time
	containers      map[string]*usage
	// past is the CPU time of containers that are not measured any more.
	past float64
}

// usage is the last sample, and the counter.
type usage struct {
	at      time.Time
	started time.Time
	// nanoCores is the rate, seconds the counter.
	nanoCores uint64
	seconds   float64
	memory    uint64
}

// New returns Figures.
func New(cfg Config) (*Figures, error) {
	if cfg.Source == nil || cfg.Offered == nil || cfg.Pods == nil || cfg.Node == "" {
		return nil, errors.New("figures: Source, Offered, Pods and Node are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Figures{cfg: cfg, begun: cfg.Now(), pods: map[types.UID]*pod{}}, nil
}

// refresh asks the far end, unless that was done lately. Who asks at the same time
// shares a question.
func (f *Figures) refresh(ctx context.Context) error {
	_, err, _ := f.asking.Do("", func() (any, error) {
		now := f.cfg.Now()
		f.mu.Lock()
		recent := !f.asked.IsZero() && now.Sub(f.asked) < life
		f.mu.Unlock()
		if recent {
			return nil, nil
		}
		pods, err := f.cfg.Pods(ctx)
		if err != nil {
			return nil, err
		}
		var answer interlink.StatsResponse
		if f.cfg.Offered() {
			if answer, err = f.cfg.Source.Stats(ctx, interlink.WatchRequest{Cluster: f.cfg.Cluster, Node: f.cfg.Node}); err != nil {
				return nil, fmt.Errorf("ask the far end for figures: %w", err)
			}
		}
		f.take(now, pods, answer.Pods)
		return nil, nil
	})
	return err
}

// take takes in an answer. Pods that the origin does not have are left out, as are
// containers that its pods do not have.
func (f *Figures) take(now time.Time, present []*corev1.Pod, measured []interlink.PodStats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = now
	known := make(map[types.UID]*corev1.Pod, len(present))
	for _, at := range present {
		known[at.UID] = at
	}
	for uid := range f.pods {
		if known[uid] == nil {
			delete(f.pods, uid)
		}
	}
	for i := range measured {
		if origin := known[types.UID(measured[i].UID)]; origin != nil {
			f.sample(origin, &measured[i])
		}
	}
	f.expire(now)
}

// sample takes in what was measured of one pod.
func (f *Figures) sample(origin *corev1.Pod, measured *interlink.PodStats) {
	at := f.pods[origin.UID]
	if at == nil {
		at = &pod{namespace: origin.Namespace, name: origin.Name, uid: origin.UID, containers: map[string]*usage{}}
		f.pods[origin.UID] = at
	}
	if origin.Status.StartTime != nil {
		at.started = origin.Status.StartTime.Time
	}
	started := starts(origin)
	for i := range measured.Containers {
		container := &measured.Containers[i]
		begun, ours := started[container.Name]
		if !ours {
			continue
		}
		use := at.containers[container.Name]
		fresh := use == nil
		if fresh {
			use = &usage{}
			at.containers[container.Name] = use
		}
		use.started = begun
		f.node.grow(use.add(measured, container, fresh), measured.Time.Time)
	}
}

// add takes in a sample, and returns by how much the counter grew.
func (u *usage) add(measured *interlink.PodStats, container *interlink.ContainerStats, fresh bool) float64 {
	at, rate := measured.Time.Time, float64(container.CPUNanoCores)/1e9
	span := at.Sub(u.at)
	grown := 0.0
	if fresh {
		span, grown = measured.Window.Duration, least
		if age := at.Sub(u.started); !u.started.IsZero() && age > 0 && age < young {
			span = age
		}
	}
	if span <= 0 && !fresh {
		return 0 // the same sample again, or an older one
	}
	grown += rate * max(span, 0).Seconds()
	u.at, u.nanoCores, u.memory = at, container.CPUNanoCores, container.MemoryBytes
	u.seconds += grown
	return grown
}

// grow adds to a counter.
func (u *usage) grow(seconds float64, at time.Time) {
	u.seconds += seconds
	if at.After(u.at) {
		u.at = at
	}
}

// expire drops old samples and sums up the node's rates.
func (f *Figures) expire(now time.Time) {
	f.node.nanoCores, f.node.memory = 0, 0
	for uid, at := range f.pods {
		for name, use := range at.containers {
			if now.Sub(use.at) > stale {
				at.past += use.seconds
				delete(at.containers, name)
				continue
			}
			f.node.nanoCores += use.nanoCores
			f.node.memory += use.memory
		}
		if len(at.containers) == 0 {
			delete(f.pods, uid)
		}
	}
}

// starts are the containers of a pod's spec with when they started, if that is known.
func starts(origin *corev1.Pod) map[string]time.Time {
	started := map[string]time.Time{}
	for _, list := range [][]corev1.Container{origin.Spec.InitContainers, origin.Spec.Containers} {
		for i := range list {
			started[list[i].Name] = time.Time{}
		}
	}
	for i := range origin.Spec.EphemeralContainers {
		started[origin.Spec.EphemeralContainers[i].Name] = time.Time{}
	}
	for _, list := range [][]corev1.ContainerStatus{
		origin.Status.InitContainerStatuses, origin.Status.ContainerStatuses, origin.Status.EphemeralContainerStatuses,
	} {
		for i := range list {
			if _, ours := started[list[i].Name]; ours && list[i].State.Running != nil {
				started[list[i].Name] = list[i].State.Running.StartedAt.Time
			}
		}
	}
	return started
}

// view is a copy of a pod for readers, with its containers in order of their names.
type view struct {
	pod

	names []string
}

// snapshot is the state now, in a constant order.
func (f *Figures) snapshot() (node usage, pods []view) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range f.pods {
		next := view{pod: *at}
		next.containers = make(map[string]*usage, len(at.containers))
		for name, use := range at.containers {
			next.containers[name] = new(*use)
			next.names = append(next.names, name)
		}
		slices.Sort(next.names)
		pods = append(pods, next)
	}
	slices.SortFunc(pods, func(a, b view) int {
		return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
	})
	return f.node, pods
}
