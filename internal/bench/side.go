// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// labelRun marks the pods of one measurement.
const labelRun = "bench.offload.infn.it/run"

// creators is how many pods are created or deleted at once; enough to keep an
// API server on two cores busy.
const creators = 16

// Side is one way to run pods: at the origin on the virtual node, or directly on
// the CaaS cluster.
type Side struct {
	Name string
	// Client observes and counts; nothing may be hidden from it.
	Client kubernetes.Interface
	// User creates, deletes and reads logs. Pods are compared with those of the same owner: admission and
	// authorization are part of what a pod costs.
	User      kubernetes.Interface
	Namespace string
	// Annotations are what pods of this side have.
	Annotations map[string]string
	// Place sends a pod of this side to the nodes that the measurement is about.
	Place func(*corev1.PodSpec)
}

// pod returns a pod that sleeps until it is killed and asks for next to nothing.
func (s Side) pod(run, name, image string) *corev1.Pod {
	grace := int64(1)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{labelRun: run}, Annotations: maps.Clone(s.Annotations)},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  new(bool),
			Containers: []corev1.Container{{
				Name: "main", Image: image,
				Command: []string{"sh", "-c", "trap exit TERM; sleep 36000 & wait"},
			}},
		},
	}
	s.Place(&pod.Spec)
	return pod
}

// create creates pods named run-0 … run-(n-1) and returns when the first request was sent.
func (s Side) create(ctx context.Context, run, image string, n int) (time.Time, error) {
	start := time.Now()
	err := parallel(ctx, n, func(ctx context.Context, i int) error {
		_, err := s.User.CoreV1().Pods(s.Namespace).Create(ctx, s.pod(run, fmt.Sprintf("%s-%d", run, i), image), metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return start, fmt.Errorf("create %d pods (%s): %w", n, s.Name, err)
	}
	return start, nil
}

// remove deletes the pods that create made and returns when the first request was sent.
func (s Side) remove(ctx context.Context, run string, n int) (time.Time, error) {
	start := time.Now()
	err := parallel(ctx, n, func(ctx context.Context, i int) error {
		err := s.User.CoreV1().Pods(s.Namespace).Delete(ctx, fmt.Sprintf("%s-%d", run, i), metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return start, fmt.Errorf("delete %d pods (%s): %w", n, s.Name, err)
	}
	return start, nil
}

func parallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// requests reads how many requests the side's API server has answered so far,
// long-running watches left out.
func (s Side) requests(ctx context.Context) (requests, error) {
	body, err := s.Client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("requests of %s API server: %w", s.Name, err)
	}
	all, err := ParseExposition(string(body))
	if err != nil {
		return nil, fmt.Errorf("requests of %s API server: %w", s.Name, err)
	}
	return requestsOf(all), nil
}
