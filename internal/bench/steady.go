// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// managed selects the pods that the sidecar made.
const managed = "app.kubernetes.io/managed-by=interlink-sidecar"

// awaitEmpty waits until CaaS holds no offloaded pod: a burst is over when it is
// gone at both ends.
func (o *Offload) awaitEmpty(ctx context.Context) error {
	for _, side := range []Side{o.Direct, o.DirectFake} {
		for {
			pods, err := remotePods(ctx, side)
			if err != nil {
				return err
			}
			if len(pods) == 0 {
				break
			}
			pause(ctx, 20*time.Millisecond)
		}
	}
	return ctx.Err()
}

func remotePods(ctx context.Context, caas Side) ([]corev1.Pod, error) {
	pods, err := caas.Client.CoreV1().Pods(caas.Namespace).List(ctx, metav1.ListOptions{LabelSelector: managed})
	if err != nil {
		return nil, fmt.Errorf("list offloaded pods: %w", err)
	}
	return pods.Items, nil
}

// statuses changes the status of single remote pods, as their kubelet would, and
// times how long the origin takes to show it while n others exist.
func (o *Offload) statuses(ctx context.Context) error {
	for _, n := range o.Status {
		took, err := o.statusesOf(ctx, n)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("status change, %d pods", n)
		o.Report.Add(name+", median", Percentile(took, 50, time.Millisecond), "ms", Lower)
		o.Report.AddTarget(name+", p99", Percentile(took, 99, time.Millisecond), "ms", Lower, 300)
	}
	return nil
}

func (o *Offload) statusesOf(ctx context.Context, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	run := fmt.Sprintf("status-%d", n)
	seen, err := o.fill(ctx, run, n)
	if err != nil {
		return nil, err
	}
	defer seen.close()
	pods, err := remotePods(ctx, o.DirectFake)
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for i := range 100 {
		pod := pods[i*len(pods)/100]
		mark := fmt.Sprintf("mark-%d", i)
		start := time.Now()
		if err := setMark(ctx, o.DirectFake.Client, &pod, mark); err != nil {
			return nil, err
		}
		at, err := seen.awaitMark(ctx, originName(&pod), mark)
		if err != nil {
			return nil, err
		}
		took = append(took, at.Sub(start))
		pause(ctx, 20*time.Millisecond)
	}
	return took, o.drain(ctx, seen, run, n)
}

// fill runs n pods on fake nodes through the virtual node.
func (o *Offload) fill(ctx context.Context, run string, n int) (*observer, error) {
	seen, err := observe(ctx, o.OriginFake.Client, o.OriginFake.Namespace, labelRun+"="+run, podName)
	if err != nil {
		return nil, err
	}
	if _, err := o.OriginFake.create(ctx, run, o.Image, n); err != nil {
		seen.close()
		return nil, err
	}
	if _, err := seen.awaitRunning(ctx, n); err != nil {
		seen.close()
		return nil, err
	}
	return seen, nil
}

func (o *Offload) drain(ctx context.Context, seen *observer, run string, n int) error {
	if _, err := o.OriginFake.remove(ctx, run, n); err != nil {
		return err
	}
	if _, err := seen.awaitGone(ctx, n); err != nil {
		return err
	}
	return o.awaitEmpty(ctx)
}

func setMark(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, mark string) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.PodCondition{{
		Type: markCondition, Status: corev1.ConditionTrue, Reason: "Marked", Message: mark, LastTransitionTime: metav1.Now(),
	}}}})
	if err != nil {
		return fmt.Errorf("encode status patch: %w", err)
	}
	_, err = client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("change status of pod %s: %w", pod.Name, err)
	}
	return nil
}

// idlePeriod is how long the idle measurements look.
const idlePeriod = 30 * time.Second

// idle counts what the path does while nothing happens to many pods. What the
// clusters do by themselves is measured before and taken off.
func (o *Offload) idle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 25*time.Minute)
	defer cancel()
	bare, err := o.heaps(ctx)
	if err != nil {
		return err
	}
	empty, err := o.requestRates(ctx)
	if err != nil {
		return err
	}
	seen, err := o.fill(ctx, "idle", o.Idle)
	if err != nil {
		return err
	}
	defer seen.close()
	pause(ctx, 20*time.Second) // let queues and garbage collectors settle
	before, err := o.usages()
	if err != nil {
		return err
	}
	full, err := o.requestRates(ctx)
	if err != nil {
		return err
	}
	after, err := o.usages()
	if err != nil {
		return err
	}
	o.reportIdle(before, after, empty, full)
	if err := o.reportHeaps(ctx, bare); err != nil {
		return err
	}
	if err := o.Profiler.snapshot(ctx, "idle", "full", o.Fake); err != nil {
		return err
	}
	return o.drain(ctx, seen, "idle", o.Idle)
}

// reportIdle says what the programs and the API servers did while nothing happened.
func (o *Offload) reportIdle(before, after map[string]usage, empty, full [2]float64) {
	for _, program := range o.Fake {
		name := program.Name
		figure := fmt.Sprintf("idle, %d pods, %s", o.Idle, name)
		busy := 100 * float64(after[name].cpu-before[name].cpu) / float64(idlePeriod)
		o.Report.AddTarget(figure+", CPU", busy, "%", Lower, 1)
		o.Report.AddTarget(figure+", peak memory", float64(after[name].peak)/(1<<20), "MiB", Lower, 300)
	}
	for i, cluster := range []string{"CaaS", "origin"} {
		name := fmt.Sprintf("idle, %d pods, %s API requests beyond an empty cluster", o.Idle, cluster)
		o.Report.AddTarget(name, max(full[i]-empty[i], 0), "requests/s", Lower, 0.5)
	}
}

// heaps are what the programs need of their heaps, by name.
func (o *Offload) heaps(ctx context.Context) (map[string]float64, error) {
	heaps := make(map[string]float64, len(o.Fake))
	for _, program := range o.Fake {
		live, err := o.Profiler.live(ctx, program)
		if err != nil {
			return nil, err
		}
		heaps[program.Name] = live
	}
	return heaps, nil
}

// reportHeaps says what each program keeps per pod, beside what the pod itself takes in any program that watches it.
func (o *Offload) reportHeaps(ctx context.Context, bare map[string]float64) error {
	object, err := o.objectSize(ctx)
	if err != nil {
		return err
	}
	full, err := o.heaps(ctx)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("idle, %d pods, ", o.Idle)
	o.Report.Add(name+"one pod as an informer keeps it", object/(1<<10), "KiB", Lower)
	for _, program := range o.Fake {
		each := (full[program.Name] - bare[program.Name]) / float64(o.Idle)
		o.Report.Add(name+program.Name+", heap per pod", each/(1<<10), "KiB", Lower)
		o.Report.AddTarget(name+program.Name+", heap per pod beyond the informer's", (each-object)/(1<<10), "KiB", Lower, 20)
	}
	return nil
}

// objectSize is what a pod of the origin takes in memory, as an informer has it that drops managed fields.
func (o *Offload) objectSize(ctx context.Context) (float64, error) {
	before := ownHeap()
	pods, err := o.OriginFake.Client.CoreV1().Pods(o.OriginFake.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labelRun + "=idle"})
	if err != nil {
		return 0, fmt.Errorf("list idle pods: %w", err)
	}
	for i := range pods.Items {
		pods.Items[i].ManagedFields = nil
	}
	size := ownHeap() - before
	runtime.KeepAlive(pods)
	if len(pods.Items) == 0 {
		return 0, errors.New("no idle pods")
	}
	return size / float64(len(pods.Items)), nil
}

// ownHeap is what this process needs of its heap.
func ownHeap() float64 {
	runtime.GC()
	runtime.GC() // the first one only hands over what sync.Pools hold
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

// requestRates counts the requests per second of the CaaS and the origin's API server.
func (o *Offload) requestRates(ctx context.Context) ([2]float64, error) {
	var rates [2]float64
	sides := [2]Side{o.DirectFake, o.OriginFake}
	for i, side := range sides {
		count, err := side.requests(ctx)
		if err != nil {
			return rates, err
		}
		rates[i] = -count.total()
	}
	pause(ctx, idlePeriod)
	for i, side := range sides {
		count, err := side.requests(ctx)
		if err != nil {
			return rates, err
		}
		rates[i] = (rates[i] + count.total()) / idlePeriod.Seconds()
	}
	return rates, nil
}

func (o *Offload) usages() (map[string]usage, error) {
	usages := make(map[string]usage, len(o.Fake))
	for _, program := range o.Fake {
		u, err := usageOf(program.PID)
		if err != nil {
			return nil, err
		}
		usages[program.Name] = u
	}
	return usages, nil
}
