// SPDX-License-Identifier: Apache-2.0

package bench

import "context"

// Rise are the sizes that waves rise to.
func Rise(most int) []int { return rise(most) }

// Fall are the sizes that they fall to.
func Fall(most int) []int { return fall(most) }

// WorkerOf is the worker that a pod is.
func WorkerOf(pod string) string { return workerOf(pod) }

// Requests are those that an exposition tells of: all, those that read pods, and a list of those that n lives have.
func Requests(all, before Exposition, n int) (total, reads float64, most string) {
	counted := requestsOf(all).since(requestsOf(before))
	return counted.total(), counted.reads(), counted.most(n)
}

// During runs a scenario under a Profiler.
func (p *Profiler) During(ctx context.Context, scenario string, programs []Program, run func(context.Context) error) error {
	return p.during(ctx, scenario, programs, run)
}

// Live is the heap that a program needs.
func (p *Profiler) Live(ctx context.Context, program Program) (float64, error) {
	return p.live(ctx, program)
}
