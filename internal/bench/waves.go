// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// wavePeriod is how often dask's operator looks whether there are enough workers.
	wavePeriod = 5 * time.Second
	// waveSteps is how many waves the rise has, each to double the number of workers.
	waveSteps = 5

	daskCluster = "analysis"
	daskGroup   = daskCluster + "-default"
	waveRun     = "waves"
)

// rise are the numbers of workers that the waves rise to: adaptive scaling asks for more as the tasks fan out.
func rise(most int) []int {
	sizes := make([]int, 0, waveSteps)
	for i := range waveSteps {
		sizes = append(sizes, (most-1)>>(waveSteps-1-i)+1)
	}
	return slices.Compact(sizes)
}

// fall are the numbers of workers that they fall to: the operator removes at most a quarter at a time. The last tenth goes
// with the cluster.
func fall(most int) []int {
	var sizes []int
	for n := most; n >= 4 && n > most/10; {
		n -= n / 4
		sizes = append(sizes, n)
	}
	return append(sizes, 0)
}

// waves creates and deletes dask workers as an adaptive cluster does, offloaded and directly.
func (o *Offload) waves(ctx context.Context) error {
	offloaded, err := o.wavesOf(ctx, o.OriginFake)
	if err != nil {
		return err
	}
	direct, err := o.wavesOf(ctx, o.DirectFake)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("waves to %d workers", o.Workers)
	for _, ways := range []struct {
		what             string
		direct, offloads []time.Duration
	}{
		{"Deployment created to worker Running", direct.running, offloaded.running},
		{"Deployment deleted to worker gone", direct.gone, offloaded.gone},
	} {
		for _, p := range []float64{50, 95, 99} {
			figure := fmt.Sprintf("%s, %s, p%.0f", name, ways.what, p)
			d, f := Percentile(ways.direct, p, time.Millisecond), Percentile(ways.offloads, p, time.Millisecond)
			o.Report.Add(figure+", direct", d, "ms", Lower)
			o.Report.Add(figure+", offloaded", f, "ms", Lower)
			o.Report.AddTarget(figure+", offloaded to direct", f/d, "x", Lower, 2.5)
		}
	}
	workers := float64(o.Workers)
	o.Report.AddTarget(name+", pods that took the place of another", float64(offloaded.pods-o.Workers), "pods", Lower, 0)
	o.Report.Add(name+", CaaS API requests per worker, direct", direct.caas.total()/workers, "requests", Lower)
	o.Report.Add(name+", CaaS API requests per worker, offloaded", offloaded.caas.total()/workers, "requests", Lower)
	o.Report.Add(name+", origin API requests per worker, offloaded", offloaded.origin.total()/workers, "requests", Lower)
	o.reportCPU(name, o.Workers, offloaded.life)
	o.sayRequests(o.Workers, direct.life, offloaded.life)
	return nil
}

// waved is what the waves of one side took.
type waved struct {
	life

	// running and gone are the workers' times.
	running, gone []time.Duration
	// pods is how many there were in all.
	pods int
}

// wavesOf makes the waves on one side.
func (o *Offload) wavesOf(ctx context.Context, side Side) (waved, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	near, err := observe(ctx, side.Client, side.Namespace, labelRun+"="+waveRun, func(pod *corev1.Pod) string { return workerOf(pod.Name) })
	if err != nil {
		return waved{}, err
	}
	defer near.close()
	ends := []*observer{near}
	if side.Name == o.OriginFake.Name {
		far, err := observe(ctx, o.DirectFake.Client, o.DirectFake.Namespace, managed, func(pod *corev1.Pod) string { return workerOf(originName(pod)) })
		if err != nil {
			return waved{}, err
		}
		defer far.close()
		ends = append(ends, far)
	}
	crowd := &crowd{side: side, image: o.Image, created: map[string]time.Time{}, deleted: map[string]time.Time{}}
	var w waved
	w.life, err = o.count(ctx, func() error { return crowd.wave(ctx, o.Workers, ends) })
	if err != nil {
		return w, fmt.Errorf("%s: %w", side.Name, err)
	}
	gone := map[string]time.Time{}
	for _, end := range ends {
		end.mu.Lock()
		for name, at := range end.gone {
			if at.After(gone[name]) {
				gone[name] = at
			}
		}
		end.mu.Unlock()
	}
	near.mu.Lock()
	defer near.mu.Unlock()
	w.running, w.gone, w.pods = between(crowd.created, near.running), between(crowd.deleted, gone), len(near.uids)
	return w, nil
}

// between are the times from what happened to each worker to what was seen of it then.
func between(happened, seen map[string]time.Time) []time.Duration {
	took := make([]time.Duration, 0, len(happened))
	for name, at := range happened {
		took = append(took, seen[name].Sub(at))
	}
	return took
}

// workerOf is the Deployment of a pod, whose name a ReplicaSet's hash and five characters were added to.
func workerOf(pod string) string {
	for range 2 {
		pod = pod[:max(strings.LastIndexByte(pod, '-'), 0)]
	}
	return pod
}

// crowd are the workers of a dask cluster.
type crowd struct {
	side  Side
	image string
	// alive are the workers' names, the oldest first.
	alive            []string
	created, deleted map[string]time.Time
}

// wave lets the crowd rise to most workers, waits until all of them run, and lets it fall to none, until all are gone
// at all ends.
func (c *crowd) wave(ctx context.Context, most int, ends []*observer) error {
	if err := c.steps(ctx, rise(most)); err != nil {
		return err
	}
	if _, err := ends[0].awaitRunning(ctx, most); err != nil {
		return err
	}
	if err := c.steps(ctx, fall(most)); err != nil {
		return err
	}
	for _, end := range ends {
		if _, err := end.awaitGone(ctx, most); err != nil {
			return err
		}
	}
	return nil
}

// steps brings the crowd to one size after the other, a period apart, whether the step before is done or not.
func (c *crowd) steps(ctx context.Context, sizes []int) error {
	ticker := time.NewTicker(wavePeriod)
	defer ticker.Stop()
	for i, size := range sizes {
		if i > 0 {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := c.scale(ctx, size); err != nil {
			return err
		}
	}
	return nil
}

// scale creates or deletes workers one after the other, as the operator does in its loop.
func (c *crowd) scale(ctx context.Context, size int) error {
	deployments := c.side.User.AppsV1().Deployments(c.side.Namespace)
	for len(c.alive) < size {
		worker, err := c.worker()
		if err != nil {
			return err
		}
		c.created[worker.Name] = time.Now()
		if _, err := deployments.Create(ctx, worker, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create worker (%s): %w", c.side.Name, err)
		}
		c.alive = append(c.alive, worker.Name)
	}
	for len(c.alive) > size {
		name := c.alive[0]
		c.deleted[name] = time.Now()
		if err := deployments.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("delete worker (%s): %w", c.side.Name, err)
		}
		c.alive = c.alive[1:]
	}
	return nil
}

// worker is what dask's operator makes for one worker, but for what it runs.
func (c *crowd) worker() (*appsv1.Deployment, error) {
	var id [5]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, errors.Join(errors.New("make up a worker's name"), err)
	}
	name := daskGroup + "-worker-" + hex.EncodeToString(id[:])
	selector := map[string]string{
		"dask.org/cluster-name": daskCluster, "dask.org/workergroup-name": daskGroup, "dask.org/component": "worker",
		"sidecar.istio.io/inject": "false",
	}
	labels := maps.Clone(selector)
	labels[labelRun] = waveRun
	pod := c.side.pod(waveRun, name, c.image)
	pod.Spec.TerminationGracePeriodSeconds = nil
	main := &pod.Spec.Containers[0]
	main.Env = []corev1.EnvVar{
		{Name: "DASK_WORKER_NAME", Value: name},
		{Name: "DASK_SCHEDULER_ADDRESS", Value: "tcp://" + daskCluster + "-scheduler." + c.side.Namespace + ".svc.cluster.local:8786"},
	}
	main.Args = []string{"--name", "$(DASK_WORKER_NAME)", "--dashboard", "--dashboard-address", "8788"}
	main.Ports = []corev1.ContainerPort{{Name: "http-dashboard", ContainerPort: 8788, Protocol: corev1.ProtocolTCP}}
	meta := metav1.ObjectMeta{Name: name, Labels: labels}
	return &appsv1.Deployment{
		ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: pod.Annotations},
				Spec:       pod.Spec,
			},
		},
	}, nil
}
