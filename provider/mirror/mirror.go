// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
)

const (
	// workers write at once.
	workers = 4
	// maxPerPod is how many different events of one pod are written at most.
	maxPerPod = 100
	// attempts is how often an event is tried before it is given up, firstRetry the
	// first pause between.
	attempts   = 5
	firstRetry = time.Second
	// writeTimeout bounds one attempt.
	writeTimeout = 15 * time.Second
)

// Config is what a Mirror needs.
type Config struct {
	Client kubernetes.Interface
	// Node is the virtual node's name.
	Node string
	// Rate bounds all events; default 50 a second with a burst of 100, which is what a
	// kubelet may write.
	Rate Limit
	// PodRate bounds the events of one pod; default one per 30 seconds with a burst of 40.
	PodRate Limit
	// Metrics is where the mirror registers its figures; nil registers nowhere.
	Metrics prometheus.Registerer
}

// Limit is a rate with a burst.
type Limit struct {
	Every time.Duration
	Burst int
}

func (l Limit) limiter() *rate.Limiter { return rate.NewLimiter(rate.Every(l.Every), l.Burst) }

// Mirror writes events. It may be used by many goroutines at once.
type Mirror struct {
	cfg     Config
	all     *rate.Limiter
	queue   workqueue.TypedDelayingInterface[key]
	written *prometheus.CounterVec

	mu   sync.Mutex
	pods map[types.UID]*share
}

// key names one event of one pod.
type key struct {
	pod types.UID
	id  string
}

// share is what is known of the events of one pod.
type share struct {
	pod     corev1.ObjectReference
	limiter *rate.Limiter
	events  map[string]*state
}

// state is one event: as the far end has it, and as it was last written.
type state struct {
	wanted  interlink.PodEvent
	have    interlink.PodEvent
	written bool
	// tries counts failed attempts in a row; given up after too many.
	tries int
}

// New returns a Mirror; Run starts it.
func New(cfg Config) (*Mirror, error) {
	if cfg.Client == nil || cfg.Node == "" {
		return nil, errors.New("mirror: Client and Node are required")
	}
	if cfg.Rate == (Limit{}) {
		cfg.Rate = Limit{Every: time.Second / 50, Burst: 100}
	}
	if cfg.PodRate == (Limit{}) {
		cfg.PodRate = Limit{Every: 30 * time.Second, Burst: 40}
	}
	m := &Mirror{
		cfg: cfg, all: cfg.Rate.limiter(), queue: workqueue.NewTypedDelayingQueue[key](), pods: map[types.UID]*share{},
		written: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "virtual_kubelet_events_total", Help: "Events of the far end, by what became of them at the origin: written, dropped, failed.",
		}, []string{"outcome"}),
	}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(m.written); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// Take takes in an event of the far end about a pod of the origin. It never blocks
// on anything but a lock.
func (m *Mirror) Take(pod *corev1.Pod, event interlink.PodEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.pods[pod.UID]
	if s == nil {
		s = &share{
			pod:     corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
			limiter: m.cfg.PodRate.limiter(), events: map[string]*state{},
		}
		m.pods[pod.UID] = s
	}
	at := s.events[event.ID]
	switch {
	case at == nil && len(s.events) >= maxPerPod:
		m.written.WithLabelValues("dropped").Inc()
		return
	case at == nil:
		at = &state{}
		s.events[event.ID] = at
	case at.wanted == event:
		return // a new connection repeats what is known
	}
	at.wanted, at.tries = event, 0
	m.queue.Add(key{pod: pod.UID, id: event.ID})
}

// Forget drops what is known of a pod that is gone.
func (m *Mirror) Forget(pod types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pods, pod)
}

// Run writes events until ctx is done.
func (m *Mirror) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, m.queue.ShutDown)
	defer stop()
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for {
				next, stopped := m.queue.Get()
				if stopped {
					return
				}
				m.work(ctx, next)
				m.queue.Done(next)
			}
		})
	}
	running.Wait()
	return nil
}

// work writes one event, when the pod's and everyone's limits allow it.
func (m *Mirror) work(ctx context.Context, next key) {
	pod, at, pause, ok := m.due(next)
	switch {
	case ctx.Err() != nil || !ok:
		return
	case pause > 0:
		m.queue.AddAfter(next, pause)
		return
	case m.all.Wait(ctx) != nil:
		return
	}
	bounded, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := m.write(bounded, pod, at)
	if err != nil && ctx.Err() != nil {
		return
	}
	m.settle(ctx, next, at.wanted, err)
}

// due returns what is to be written, and how long the pod's limit makes it wait.
func (m *Mirror) due(next key) (pod corev1.ObjectReference, at state, pause time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.pods[next.pod]
	if s == nil || s.events[next.id] == nil {
		return pod, at, 0, false
	}
	at = *s.events[next.id]
	if at.written && at.have == at.wanted {
		return pod, at, 0, false
	}
	if at.tries == 0 { // a retry has paid already
		reservation := s.limiter.Reserve()
		if pause = reservation.Delay(); pause > 0 {
			reservation.Cancel()
		}
	}
	return s.pod, at, pause, true
}

// settle records what became of an attempt.
func (m *Mirror) settle(ctx context.Context, done key, wrote interlink.PodEvent, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.pods[done.pod]
	if s == nil || s.events[done.id] == nil {
		return
	}
	at := s.events[done.id]
	if err == nil {
		at.have, at.written, at.tries = wrote, true, 0
		m.written.WithLabelValues("written").Inc()
		return
	}
	at.tries++
	if at.tries < attempts && !hopeless(err) {
		m.queue.AddAfter(done, firstRetry<<(at.tries-1))
		return
	}
	at.tries = 0 // the next change of the event is another chance
	m.written.WithLabelValues("failed").Inc()
	logging.From(ctx).Warn("event not written", "namespace", s.pod.Namespace, "pod", s.pod.Name, "reason", wrote.Reason, "error", err)
}
