// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/bench"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

const (
	decisionLimit = 2 * time.Minute
	startsWithin  = 2 * time.Second
	poolName      = "work"
)

type scaleOptions struct{ pools, rounds int }

// waiting is what became of pods: when they were first seen unschedulable, and scheduled.
type waiting struct {
	mu                       sync.Mutex
	unschedulable, scheduled map[types.NamespacedName]time.Time
}

func (s *waiting) note(object any, _ bool) {
	now := time.Now()
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	key := client.ObjectKeyFromObject(pod)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, condition := range pod.Status.Conditions {
		if condition.Type != corev1.PodScheduled {
			continue
		}
		if _, known := s.unschedulable[key]; !known && condition.Reason == corev1.PodReasonUnschedulable {
			s.unschedulable[key] = now
		}
		if _, known := s.scheduled[key]; !known && condition.Status == corev1.ConditionTrue {
			s.scheduled[key] = now
		}
	}
}

func (s *waiting) of(key types.NamespacedName) (unschedulable, scheduled time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unschedulable[key], s.scheduled[key]
}

// scaling is the measurement of pools.
type scaling struct {
	*world

	seen *watcher
	pods *waiting

	mu                  sync.Mutex // guards what follows
	decisions, complete []time.Duration
}

// runScale lets pods wait, pool by pool, and times the decision: from the news that a pod is
// unschedulable to the news of the node that is made for it.
func runScale(ctx context.Context, o *options, report *bench.Report) (err error) {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	c, err := w.startCloud(ctx, cloudOptions{projects: o.scale.pools, joins: func(openstacktest.Instance) bool { return true }})
	if err != nil {
		return err
	}
	defer c.close()
	s := &scaling{world: w, pods: &waiting{unschedulable: map[types.NamespacedName]time.Time{}, scheduled: map[types.NamespacedName]time.Time{}}}
	if s.seen, err = w.watch(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.seen.close()) }()
	if err := s.seen.follow(ctx, &corev1.Pod{}, s.pods.note); err != nil {
		return err
	}
	controller, err := w.startController(ctx, settings{provider: c.provider()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, controller.stop(ctx)) }()
	group, running := errgroup.WithContext(ctx)
	for i, t := range c.tenants {
		dice := rand.New(rand.NewPCG(1, uint64(i))) //nolint:gosec // repeatable chances
		group.Go(func() error { return s.pool(running, t, dice) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	report.Add("scale-up decision after Unschedulable, median", bench.Percentile(s.decisions, 50, time.Second), "s", bench.Lower)
	report.AddTarget("scale-up decision after Unschedulable, p95", bench.Percentile(s.decisions, 95, time.Second), "s", bench.Lower, 3)
	report.Add("scale-up, Unschedulable to scheduled, stand-in without delay, p95", bench.Percentile(s.complete, 95, time.Second), "s", bench.Lower)
	report.Add("scale-up decisions measured", float64(len(s.decisions)), "decisions", bench.Higher)
	return nil
}

// pool makes a pool, and pods for it that need a node each, one after another.
func (s *scaling) pool(ctx context.Context, t *tenant, dice *rand.Rand) error {
	pool := &osnodev1.OpenStackNodePool{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Name: poolName},
		Spec: osnodev1.OpenStackNodePoolSpec{
			Flavors:     []string{t.flavor},
			Autoscaling: &osnodev1.Autoscaling{Enabled: true, Max: int32(s.options.scale.rounds)}, //nolint:gosec // few
			Template:    osnodev1.NodeTemplate{KeyPair: t.key, Policy: osnodev1.PolicyPrivate},
		},
	}
	if err := t.client.Create(ctx, pool); err != nil {
		return fmt.Errorf("create pool: %w", err)
	}
	for round := range s.options.scale.rounds {
		pause(ctx, time.Duration(dice.Int64N(int64(startsWithin))))
		if err := s.round(ctx, t, round); err != nil {
			return fmt.Errorf("pool of %s, pod %d: %w", t.namespace, round, err)
		}
	}
	return nil
}

func (s *scaling) round(ctx context.Context, t *tenant, round int) error {
	value := "u-" + t.userID
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Name: fmt.Sprintf("job-%d", round)},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{osnodev1.NodeLabelPool: value},
			Tolerations:  []corev1.Toleration{{Key: osnodev1.TaintPool, Operator: corev1.TolerationOpEqual, Value: value, Effect: corev1.TaintEffectNoSchedule}},
			Containers: []corev1.Container{{Name: "main", Image: "example.org/image", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1200m")},
			}}},
		},
	}
	if err := t.client.Create(ctx, pod); err != nil {
		return fmt.Errorf("create pod: %w", err)
	}
	key := client.ObjectKeyFromObject(pod)
	err := await(ctx, decisionLimit, pollEvery, "the pod to be scheduled", func() (bool, error) {
		_, scheduled := s.pods.of(key)
		return !scheduled.IsZero(), nil
	})
	if err != nil {
		return err
	}
	unschedulable, scheduled := s.pods.of(key)
	decided := s.seen.latestIn(t.namespace)
	if unschedulable.IsZero() || decided.Before(unschedulable) {
		return errors.New("the pod was not what the node was made for")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decisions = append(s.decisions, decided.Sub(unschedulable))
	s.complete = append(s.complete, scheduled.Sub(unschedulable))
	return nil
}

// latestIn is when the newest node of a namespace was first seen.
func (s *watcher) latestIn(namespace string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var latest time.Time
	for _, one := range s.seen {
		if one.namespace == namespace && one.made.After(latest) {
			latest = one.made
		}
	}
	return latest
}
