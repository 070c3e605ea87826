// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"cmp"
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider/podstatus"
)

const (
	// pollBatch bounds the pods of one status query, and so its body.
	pollBatch = 200
	// pollSingles bounds the queries under way to a plugin that answers one pod each.
	pollSingles = 16
	// pollDoubts is how often in a row a plugin answers one pod of many before it
	// is taken for one that looks at the first only.
	pollDoubts = 3
)

// poller asks far ends that have no stream. What they leave out is no news.
type poller struct {
	provider *Provider
	doubts   int
	singly   bool
	turn     int
}

// round asks once for every pod that may still change.
func (q *poller) round(ctx context.Context) {
	pods := q.due()
	if len(pods) == 0 {
		return
	}
	// Plugins that answer the first pod of a list only get another one each time.
	q.turn++
	at := q.turn % len(pods)
	pods = append(slices.Clone(pods[at:]), pods[:at]...)
	if q.singly {
		q.each(ctx, pods)
		return
	}
	for batch := range slices.Chunk(pods, pollBatch) {
		answered, err := q.query(ctx, batch)
		if err != nil {
			logging.From(ctx).Info("status query unanswered", "pods", len(batch), "error", err)
			return
		}
		if len(batch) < 2 {
			continue
		}
		if answered == 1 {
			q.doubts++
		} else {
			q.doubts = 0
		}
		if q.doubts >= pollDoubts {
			logging.From(ctx).Info("far end answers one pod per query, asking singly from now on")
			q.singly = true
		}
	}
}

func (q *poller) due() []*corev1.Pod {
	p := q.provider
	var pods []*corev1.Pod
	p.table.each(func(e *entry) {
		if e.held == holds && !e.unwanted() && e.final == nil && !podstatus.Terminal(e.base()) {
			pods = append(pods, p.wirePod(e.pod, e.jobID))
		}
	})
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.UID, b.UID) })
	return pods
}

func (q *poller) each(ctx context.Context, pods []*corev1.Pod) {
	var group errgroup.Group
	group.SetLimit(pollSingles)
	for _, pod := range pods {
		group.Go(func() error {
			if _, err := q.query(ctx, []*corev1.Pod{pod}); err != nil {
				logging.From(ctx).Debug("status query unanswered", "podUid", pod.UID, "error", err)
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return no error
}

// query asks for some pods and returns how many of them the answer is about.
func (q *poller) query(ctx context.Context, pods []*corev1.Pod) (int, error) {
	reports, err := q.provider.cfg.FarEnd.Status(ctx, pods)
	if err != nil {
		return 0, err
	}
	asked := make(map[types.UID]bool, len(pods))
	for _, pod := range pods {
		asked[pod.UID] = true
	}
	answered := 0
	for i := range reports {
		if asked[types.UID(reports[i].UID)] && reports[i].Name != "" {
			answered++
			q.provider.applyPolled(&reports[i])
		}
	}
	return answered, nil
}

// applyPolled takes in one answer of a poll, which may be older than what this
// side did meanwhile: it never brings back a pod that was given up or deleted.
func (p *Provider) applyPolled(report *interlink.PodStatus) {
	e, ok := p.table.view(types.UID(report.UID))
	if ok && e.held == holds && !e.unwanted() {
		p.apply(report, false)
	}
}
