// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider/bundle"
)

// Outcomes of updates, as a metric's label.
const (
	updateDone    = "done"
	updateRefused = "refused"
	updateFailed  = "failed"
)

// standing is what is known of a pod's share at the far end that updates change.
type standing struct {
	// known: marks are the far end's, from its report or from what it was sent last.
	known bool
	marks bundle.Marks
	// refused is the state that the far end refused to take over.
	refused bundle.Revision
	// failures counts updates that failed in a row.
	failures int
}

// learn takes over the marks of a report, unless those of a later request are known,
// and tells whether they were news.
func (s *standing) learn(detail *interlink.PodDetail) bool {
	if s.known || detail == nil {
		return false
	}
	s.known, s.marks = true, bundle.Marks{Revision: bundle.ParseRevision(detail.Revision)}
	if detail.RefreshAt != nil {
		s.marks.RefreshAt = detail.RefreshAt.Time
	}
	return true
}

// updatable reports whether something differs between two states of a pod that can
// change in a live pod and that the far end has to know.
func updatable(before, after *corev1.Pod) bool {
	if before.ResourceVersion == after.ResourceVersion {
		return false
	}
	images := func(a, b []corev1.Container) bool {
		return slices.EqualFunc(a, b, func(a, b corev1.Container) bool { return a.Image == b.Image })
	}
	return !maps.Equal(before.Labels, after.Labels) || !maps.Equal(before.Annotations, after.Annotations) ||
		!images(before.Spec.Containers, after.Spec.Containers) || !images(before.Spec.InitContainers, after.Spec.InitContainers) ||
		!equality.Semantic.DeepEqual(before.Spec.Tolerations, after.Spec.Tolerations) ||
		!equality.Semantic.DeepEqual(before.Spec.ActiveDeadlineSeconds, after.Spec.ActiveDeadlineSeconds) ||
		!equality.Semantic.DeepEqual(before.Spec.TerminationGracePeriodSeconds, after.Spec.TerminationGracePeriodSeconds)
}

// objectChanged wakes the pods that refer to an object, once for all changes of a
// moment.
func (p *Provider) objectChanged(_ bundle.Reference, pods []types.UID) {
	for _, pod := range pods {
		p.work.AddAfter(pod, p.cfg.Debounce)
	}
}

// newest is the version of an object as far as it is known.
func (p *Provider) newest(reference bundle.Reference) string {
	if p.follower == nil {
		return ""
	}
	version, _ := p.follower.Version(reference)
	return version
}

func (p *Provider) unfollow(uid types.UID) {
	if p.follower != nil {
		p.follower.Forget(uid)
	}
}

// keepInStep tells the far end what a pod that it holds has become, if that is
// something else than what it knows, and replaces tokens before they expire. It decides
// by comparing states, so that nothing is lost when this process was away.
func (p *Provider) keepInStep(ctx context.Context, e *entry, far *features) step {
	if !far.update || ending(e) {
		p.unfollow(e.uid)
		return step{}
	}
	if p.follower != nil {
		p.follower.Refer(e.uid, bundle.References(e.pod))
	}
	if !e.standing.known {
		return step{} // the report with the far end's marks wakes the pod
	}
	wanted := p.wanted(e)
	held := e.standing.marks
	due := !held.RefreshAt.IsZero() && !time.Now().Before(held.RefreshAt)
	if !due && (wanted == held.Revision || wanted == e.standing.refused) {
		return untilRefresh(held)
	}
	what := &bundle.Update{Held: held, Tokens: due || wanted.Tokens != held.Revision.Tokens}
	return p.update(ctx, e, wanted, bundle.Options{
		References: far.references, Claims: far.claimsTold(tellReadsAfter), Marks: true, Update: what, Newest: p.newest,
	})
}

// ending tells that the far end's pod takes no update any more.
func ending(e *entry) bool {
	if e.wire == nil || e.wire.Detail == nil {
		return false
	}
	detail := e.wire.Detail
	return detail.Deleting || detail.Phase == corev1.PodSucceeded || detail.Phase == corev1.PodFailed
}

// wanted is the revision that the far end should hold. Objects count only when all
// their versions are known; until then those that it holds are good enough.
func (p *Provider) wanted(e *entry) bundle.Revision {
	all := p.follower != nil
	for _, reference := range bundle.References(e.pod) {
		all = all && p.newest(reference) != ""
	}
	if !all {
		held := e.standing.marks.Revision
		held.Pod = bundle.PodRevision(e.pod)
		return held
	}
	return bundle.RevisionOf(e.pod, p.newest)
}

func untilRefresh(held bundle.Marks) step {
	if held.RefreshAt.IsZero() {
		return step{}
	}
	return step{again: max(time.Until(held.RefreshAt), time.Millisecond)}
}

// update sends one update.
func (p *Provider) update(ctx context.Context, e *entry, wanted bundle.Revision, options bundle.Options) step {
	request, err := p.cfg.Bundler.Collect(ctx, e.pod, options)
	if err != nil {
		return p.notUpdated(e, err)
	}
	p.dress(&request.Pod, e.jobID)
	done := p.metrics.track("update")
	begun := time.Now()
	err = p.cfg.FarEnd.Update(ctx, request)
	done()
	if interlink.IsRefused(err) {
		return p.updateRefused(ctx, e, wanted, request, err)
	}
	if err != nil {
		return p.notUpdated(e, err)
	}
	p.metrics.updates.Observe(time.Since(begun).Seconds())
	p.metrics.updated.WithLabelValues(updateDone).Inc()
	p.sent(e, request)
	logging.From(ctx).Debug("pod updated at the far end", "namespace", e.pod.Namespace, "pod", e.pod.Name, "podUid", e.uid, "tokens", options.Update.Tokens)
	return untilRefresh(bundle.MarksOf(&request.Pod))
}

// sent records what the far end holds now. Objects that cannot change are not followed.
func (p *Provider) sent(e *entry, request *interlink.CreateRequest) {
	p.table.change(e.uid, func(e *entry) {
		if e.standing.failures > 0 {
			e.said = "" // the next trouble is a new one
		}
		e.standing = standing{known: true, marks: bundle.MarksOf(&request.Pod)}
	})
	if p.follower == nil {
		return
	}
	p.follower.Refer(e.uid, bundle.References(e.pod))
	settle := func(kind, namespace, name, version string, immutable *bool) {
		if immutable != nil && *immutable {
			p.follower.Settle(bundle.Reference{Kind: kind, Namespace: namespace, Name: name}, version)
		}
	}
	for i := range request.ConfigMaps {
		object := &request.ConfigMaps[i]
		settle(bundle.KindConfigMap, object.Namespace, object.Name, object.ResourceVersion, object.Immutable)
	}
	for i := range request.Secrets {
		object := &request.Secrets[i]
		settle(bundle.KindSecret, object.Namespace, object.Name, object.ResourceVersion, object.Immutable)
	}
}

// updateRefused records that the far end took over the objects, with new tokens, but
// not what the pod has become. The same state is not sent again for its own sake.
func (p *Provider) updateRefused(ctx context.Context, e *entry, wanted bundle.Revision, request *interlink.CreateRequest, err error) step {
	p.metrics.updated.WithLabelValues(updateRefused).Inc()
	logging.From(ctx).Info("update refused", "namespace", e.pod.Namespace, "pod", e.pod.Name, "message", farEndsWords(err))
	p.tell(e, EventRemoteUpdateFailed, farEndsWords(err))
	held := e.standing.marks
	held.RefreshAt = bundle.MarksOf(&request.Pod).RefreshAt
	p.table.change(e.uid, func(e *entry) { e.standing.marks, e.standing.refused, e.standing.failures = held, wanted, 0 })
	return untilRefresh(held)
}

// notUpdated retries. Users hear of it when it goes on, but not of pods that end
// meanwhile.
func (p *Provider) notUpdated(e *entry, err error) step {
	p.metrics.updated.WithLabelValues(updateFailed).Inc()
	failures := 0
	p.table.change(e.uid, func(e *entry) {
		e.standing.failures++
		failures = e.standing.failures
	})
	var missing *bundle.MissingError
	switch {
	case interlink.IsNotFound(err), interlink.IsConflict(err):
	case errors.As(err, &missing):
		p.tell(e, EventMissingObject, missing.Error())
	case failures >= tellAfter:
		p.tell(e, EventRemoteUpdateFailed, err.Error())
	}
	return step{err: err}
}
