// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

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
	seen, err := observe(ctx, side.Client, side.Namespace, labelRun+"=log", podName)
	if err != nil {
		return 0, err
	}
	defer seen.close()
	if _, err := side.User.CoreV1().Pods(side.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("create log pod (%s): %w", side.Name, err)
	}
	if _, err := seen.awaitRunning(ctx, 1); err != nil {
		return 0, err
	}
	var best float64
	for range 5 {
		pause(ctx, time.Second)
		start := time.Now()
		stream, err := side.User.CoreV1().Pods(side.Namespace).GetLogs("log", &corev1.PodLogOptions{}).Stream(ctx)
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
	if err := side.User.CoreV1().Pods(side.Namespace).Delete(ctx, "log", metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		return 0, fmt.Errorf("delete log pod (%s): %w", side.Name, err)
	}
	_, err = seen.awaitGone(ctx, 1)
	return best, err
}
