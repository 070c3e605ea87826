// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
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
		at, err := seen.awaitMark(ctx, pod.Annotations["offload.infn.it/name"], mark)
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
	seen, err := observe(ctx, o.OriginFake.Client, o.OriginFake.Namespace, labelRun+"="+run)
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
	for name := range o.Processes {
		figure := fmt.Sprintf("idle, %d pods, %s", o.Idle, name)
		busy := 100 * float64(after[name].cpu-before[name].cpu) / float64(idlePeriod)
		o.Report.AddTarget(figure+", CPU", busy, "%", Lower, 1)
		o.Report.AddTarget(figure+", peak memory", float64(after[name].peak)/(1<<20), "MiB", Lower, 300)
	}
	for i, cluster := range []string{"CaaS", "origin"} {
		name := fmt.Sprintf("idle, %d pods, %s API requests beyond an empty cluster", o.Idle, cluster)
		o.Report.AddTarget(name, max(full[i]-empty[i], 0), "requests/s", Lower, 0.5)
	}
	return o.drain(ctx, seen, "idle", o.Idle)
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
		rates[i] = -count
	}
	pause(ctx, idlePeriod)
	for i, side := range sides {
		count, err := side.requests(ctx)
		if err != nil {
			return rates, err
		}
		rates[i] = (rates[i] + count) / idlePeriod.Seconds()
	}
	return rates, nil
}

func (o *Offload) usages() (map[string]usage, error) {
	usages := make(map[string]usage, len(o.Processes))
	for name, pid := range o.Processes {
		u, err := usageOf(pid)
		if err != nil {
			return nil, err
		}
		usages[name] = u
	}
	return usages, nil
}

// logs times the same large log read directly and through the virtual node.
func (o *Offload) logs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	direct, err := o.logRate(ctx, o.Direct)
	if err != nil {
		return err
	}
	origin, err := o.logRate(ctx, o.Origin)
	if err != nil {
		return err
	}
	o.Report.Add("log, direct", direct, "MB/s", Higher)
	o.Report.Add("log, offloaded", origin, "MB/s", Higher)
	o.Report.AddTarget("log, offloaded to direct", origin/direct, "x", Higher, 0.6)
	return nil
}

// logRate has a pod write a log that stays below the 10 MiB at which the kubelet
// rotates it, reads it five times and returns the best rate in MB/s.
func (o *Offload) logRate(ctx context.Context, side Side) (float64, error) {
	pod := side.pod("log", "log", o.Image)
	pod.Spec.Containers[0].Command = []string{"sh", "-c", "yes 0123456789012345678901234567890123456789012345678901234567890123456789012345678 | head -c 8000000; echo; echo written; trap exit TERM; sleep 36000 & wait"}
	seen, err := observe(ctx, side.Client, side.Namespace, labelRun+"=log")
	if err != nil {
		return 0, err
	}
	defer seen.close()
	if _, err := side.Client.CoreV1().Pods(side.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("create log pod (%s): %w", side.Name, err)
	}
	if _, err := seen.awaitRunning(ctx, 1); err != nil {
		return 0, err
	}
	var best float64
	for range 5 {
		pause(ctx, time.Second)
		start := time.Now()
		stream, err := side.Client.CoreV1().Pods(side.Namespace).GetLogs("log", &corev1.PodLogOptions{}).Stream(ctx)
		if err != nil {
			return 0, fmt.Errorf("read log (%s): %w", side.Name, err)
		}
		n, err := io.Copy(io.Discard, stream)
		_ = stream.Close()
		if err != nil {
			return 0, fmt.Errorf("read log (%s): %w", side.Name, err)
		}
		best = max(best, float64(n)/1e6/time.Since(start).Seconds())
	}
	grace := int64(0)
	if err := side.Client.CoreV1().Pods(side.Namespace).Delete(ctx, "log", metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		return 0, fmt.Errorf("delete log pod (%s): %w", side.Name, err)
	}
	_, err = seen.awaitGone(ctx, 1)
	return best, err
}
