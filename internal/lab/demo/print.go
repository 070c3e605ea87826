// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/examples/montecarlo"
	"github.com/cloudveneto/caas/examples/montecarlo/result"
)

// follow reports how many pods wait, run and have ended until the Job is over.
func (d *demo) follow(ctx context.Context) error {
	start, last := time.Now(), ""
	return d.poll(ctx, func() (bool, error) {
		pods, err := d.pods(ctx)
		if err != nil {
			return false, err
		}
		counts := map[corev1.PodPhase]int{}
		for _, pod := range pods {
			counts[pod.Status.Phase]++
		}
		state := fmt.Sprintf("%d waiting, %d running, %d succeeded, %d failed",
			counts[corev1.PodPending], counts[corev1.PodRunning], counts[corev1.PodSucceeded], counts[corev1.PodFailed])
		if state != last {
			d.say("  %5.1fs  %s", time.Since(start).Seconds(), state)
			last = state
		}
		job, err := d.Origin.BatchV1().Jobs(montecarlo.Namespace).Get(ctx, montecarlo.JobName, metav1.GetOptions{})
		if err != nil {
			return false, fmt.Errorf("read job: %w", err)
		}
		for _, condition := range job.Status.Conditions {
			if condition.Type == batchv1.JobFailed && condition.Status == corev1.ConditionTrue {
				return false, fmt.Errorf("the job failed: %s: %s", condition.Reason, condition.Message)
			}
		}
		return job.Status.CompletionTime != nil, nil
	})
}

func (d *demo) pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := d.Origin.CoreV1().Pods(montecarlo.Namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + montecarlo.JobName})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return list.Items, nil
}

// completed returns the pods that succeeded, one for each index, in order.
func (d *demo) completed(ctx context.Context) ([]corev1.Pod, error) {
	pods, err := d.pods(ctx)
	if err != nil {
		return nil, err
	}
	pods = slices.DeleteFunc(pods, func(pod corev1.Pod) bool { return pod.Status.Phase != corev1.PodSucceeded })
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return cmp.Compare(index(a), index(b)) })
	if len(pods) != montecarlo.Completions {
		return nil, fmt.Errorf("%d of %d pods completed", len(pods), montecarlo.Completions)
	}
	return pods, nil
}

func index(pod corev1.Pod) int {
	n, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil {
		return -1
	}
	return n
}

func (d *demo) printPhysics(report *result.Report) {
	d.say("")
	d.say("Dose behind the shield, %d photon histories in %d pods, %.0f s of computing:", report.Histories, report.Indices, report.Seconds)
	table := tabwriter.NewWriter(d.Out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "  QUANTITY\tEXPECTED\tMEASURED\tDEVIATION")
	for _, row := range []struct {
		name  string
		check result.Check
	}{
		{"photons through without a collision", report.Uncollided},
		{"photons out after one collision", report.ScatteredOnce},
	} {
		_, _ = fmt.Fprintf(table, "  %s\t%.6f\t%.6f ± %.6f\t%.1f σ\n", row.name, row.check.Expected, row.check.Measured, row.check.Sigma, row.check.Pull)
	}
	_ = table.Flush()
	d.say("  dose rate at the detector  %.4g ± %.2g µSv/h (unshielded %.4g µSv/h), build-up factor %.3f ± %.3f",
		report.Dose.Mean, report.Dose.Sigma, report.Unshielded, report.BuildUp.Mean, report.BuildUp.Sigma)
	d.say("  agreement within %.0f σ: yes; every result is signed with the key that travelled as a Secret", result.MaxPull)
}

// table prints where each pod ran; a pod that did not run on a CaaS node is an error.
func (d *demo) table(ctx context.Context, pods []corev1.Pod) error {
	remote, err := d.CaaS.CoreV1().Pods(d.RemoteNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=interlink-sidecar"})
	if err != nil {
		return fmt.Errorf("list pods of the caas cluster: %w", err)
	}
	nodes := map[string]string{}
	for _, pod := range remote.Items {
		nodes[pod.Labels["offload.infn.it/uid"]] = pod.Spec.NodeName
	}
	d.say("")
	var failures []error
	table := tabwriter.NewWriter(d.Out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "POD\tVIRTUAL NODE\tCAAS NODE\tEXIT CODE\tTIME TO RUNNING")
	for _, pod := range pods {
		ended := pod.Status.ContainerStatuses[0].State.Terminated
		node := nodes[string(pod.UID)]
		if node == "" || pod.Spec.NodeName != d.Node || ended == nil {
			failures = append(failures, fmt.Errorf("pod %s did not run on a CaaS node", pod.Name))
			continue
		}
		started := ended.StartedAt.Sub(pod.CreationTimestamp.Time)
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%.0f s\n", pod.Name, pod.Spec.NodeName, node, ended.ExitCode, started.Seconds())
	}
	_ = table.Flush()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	d.say("")
	d.say("%d of %d pods completed, each on a CaaS node.", len(pods), montecarlo.Completions)
	return nil
}
