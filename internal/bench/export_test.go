// SPDX-License-Identifier: Apache-2.0

package bench

import "context"

// What the tests of this package see of its inside.
var (
	Rise     = rise
	Fall     = fall
	WorkerOf = workerOf
)

// Requests are those that an exposition tells of: all, those that read pods, and a list of those that n lives have.
func Requests(all, before Exposition, n int) (total, reads float64, most string) {
	counted := requestsOf(all).since(requestsOf(before))
	return counted.total(), counted.reads(), counted.most(n)
}

// During and Live make a Profiler work.
func (p *Profiler) During(ctx context.Context, scenario string, programs []Program, run func(context.Context) error) error {
	return p.during(ctx, scenario, programs, run)
}

func (p *Profiler) Live(ctx context.Context, program Program) (float64, error) {
	return p.live(ctx, program)
}
