// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"go.opentelemetry.io/otel/attribute"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/provider/bundle"
	"github.com/cloudveneto/caas/provider/podstatus"
)

const (
	// tellAfter is how many creates in a row fail before users hear of it.
	tellAfter = 3
	// tellReadsAfter is the same for reads at the origin, some of which the Node
	// authorizer refuses until it has seen the pod itself.
	tellReadsAfter = 7
)

// create sends the pod to the far end, as one trace of everything that this takes.
func (p *Provider) create(ctx context.Context, e *entry, far *features) step {
	ctx, end := telemetry.Start(ctx, "create pod", attribute.String("k8s.namespace.name", e.pod.Namespace),
		attribute.String("k8s.pod.name", e.pod.Name), attribute.String("k8s.pod.uid", string(e.uid)))
	result := p.send(ctx, e, far)
	end(result.err)
	return result
}

func (p *Provider) send(ctx context.Context, e *entry, far *features) step {
	request, err := p.cfg.Bundler.Collect(ctx, e.pod, bundle.Options{
		References: far.references, Claims: far.claimsTold(e.failures), Marks: far.update, Newest: p.newest,
	})
	if err != nil {
		return p.notCollected(ctx, e, err)
	}
	p.dress(&request.Pod, e.jobID)
	first := e.held == holdsNothing && !e.sent
	// From here on the far end may hold the pod, whatever is heard of it.
	p.table.change(e.uid, func(e *entry) {
		if e.held == holdsNothing {
			e.held = holdsMaybe
		}
		e.sent = true
	})
	defer p.metrics.track("create")()
	begun := time.Now()
	created, err := p.cfg.FarEnd.Create(ctx, request)
	if err != nil {
		return p.notCreated(ctx, e, err)
	}
	p.metrics.creates.Observe(time.Since(begun).Seconds())
	p.accepted(e.uid, created.PodJID, far)
	if first && far.update {
		p.sent(e, request)
	}
	logging.From(ctx).Debug("pod created at the far end", "namespace", e.pod.Namespace, "pod", e.pod.Name, "podUid", e.uid)
	p.work.Add(e.uid)
	return step{}
}

// accepted records that the far end holds the pod. It may have been reported as
// gone already, which the answer to an older create does not undo.
func (p *Provider) accepted(uid types.UID, jobID string, far *features) {
	p.table.change(uid, func(e *entry) {
		if e.held == holdsNothing || e.held == holdsMaybe {
			e.held = holds
		}
		e.acceptedAt, e.failures, e.wait, e.said = time.Now(), 0, nil, ""
		e.suspect, e.absences, e.jobID = false, 0, jobID
		e.unmarked = !far.idempotent && e.pod.Annotations[interlink.AnnotationJobID] != jobID
	})
}

func (p *Provider) notCollected(ctx context.Context, e *entry, err error) step {
	var refused *bundle.RefusedError
	var missing *bundle.MissingError
	switch {
	case errors.As(err, &refused):
		p.refuse(ctx, e, refused.Message)
		return step{}
	case errors.As(err, &missing):
		p.tell(e, EventMissingObject, missing.Error())
		p.setWait(e.uid, "CreateContainerConfigError", missing.Error())
		return step{err: err}
	default:
		return p.troubled(e, err, tellReadsAfter)
	}
}

// notCreated decides what an error of a create means. Unless it can be ruled out
// that the far end acted on it, a far end that creates twice is asked first (see settle).
func (p *Provider) notCreated(ctx context.Context, e *entry, err error) step {
	if interlink.IsRefused(err) {
		p.refuse(ctx, e, farEndsWords(err))
		return step{}
	}
	if e.held == holdsNothing && neverSent(err) {
		p.table.change(e.uid, func(e *entry) {
			if e.held == holdsMaybe {
				e.held, e.sent = holdsNothing, false
			}
		})
	}
	return p.troubled(e, err, tellAfter)
}

// troubled counts a failed try and tells users from the given number of them on.
func (p *Provider) troubled(e *entry, err error, patience int) step {
	failures := 0
	p.table.change(e.uid, func(e *entry) {
		e.failures++
		failures = e.failures
	})
	if failures >= patience {
		p.tell(e, EventRemoteCreateFailed, err.Error())
		p.setWait(e.uid, "RemoteCreateFailed", err.Error())
	}
	return step{err: err}
}

// refuse ends a pod that can never run at the far end.
func (p *Provider) refuse(ctx context.Context, e *entry, message string) {
	logging.From(ctx).Info("pod refused", "namespace", e.pod.Namespace, "pod", e.pod.Name, "message", message)
	p.table.change(e.uid, func(e *entry) {
		if e.held == holdsMaybe {
			e.held = heldOnce
		}
	})
	p.tell(e, EventRefused, message)
	p.conclude(e.uid, podstatus.Outcome{Reason: EventRefused, Message: message, ExitCode: 1})
}

// farEndsWords is the far end's own sentence, without what this side adds to it.
func farEndsWords(err error) string {
	var status *interlink.StatusError
	if errors.As(err, &status) && status.Message != "" {
		return status.Message
	}
	return err.Error()
}

// neverSent reports whether the request cannot have reached the far end.
func neverSent(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation) && operation.Op == "dial"
}

// settle finds out whether the far end holds a pod that this process is not sure
// of: one from before its start, or one whose create was not answered.
func (p *Provider) settle(ctx context.Context, e *entry, far *features) step {
	switch {
	case e.sent && far.idempotent:
		return p.create(ctx, e, far)
	case !e.sent && far.stream:
		return step{} // the stream's snapshot settles it
	}
	jobID, marked := e.pod.Annotations[interlink.AnnotationJobID]
	if !e.sent && marked {
		p.accepted(e.uid, jobID, far)
		return step{}
	}
	report, found, err := p.ask(ctx, e)
	if err != nil {
		return step{err: err}
	}
	if !found {
		p.table.change(e.uid, func(e *entry) { e.held, e.sent = holdsNothing, false })
		e.held = holdsNothing
		return p.create(ctx, e, far)
	}
	p.accepted(e.uid, report.JobID, far)
	p.apply(report, false)
	p.work.Add(e.uid)
	return step{}
}

// mark writes the job id to the origin's object, which a far end that creates
// twice needs after a restart of this process.
func (p *Provider) mark(ctx context.Context, e *entry, far *features) step {
	if !e.unmarked || far.idempotent {
		return step{}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         e.uid,
		"annotations": map[string]string{interlink.AnnotationJobID: e.jobID},
	}})
	if err != nil {
		return step{err: fmt.Errorf("encode job id: %w", err)}
	}
	_, err = p.cfg.Client.CoreV1().Pods(e.pod.Namespace).Patch(ctx, e.pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return step{err: fmt.Errorf("annotate pod %s/%s: %w", e.pod.Namespace, e.pod.Name, err)}
	}
	p.table.change(e.uid, func(e *entry) { e.unmarked = false })
	return step{}
}
