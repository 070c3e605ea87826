// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/gorilla/mux"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/apply"
	"github.com/cloudveneto/caas/sidecar/plugin/request"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// update brings a created pod and its objects in step with what they have become at
// their origin. It never creates a pod.
func (p *Plugin) update(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	data, done, ok := p.takeTurn(w, r)
	defer done()
	if !ok {
		return
	}
	wire, unknown, err := request.Update(data)
	if err == nil && string(wire.Pod.UID) != mux.Vars(r)["uid"] {
		err = errors.New("the pod in the request is not the one of its path")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	outcome, err := p.updatePod(r, wire, unknown)
	p.metrics.updates.WithLabelValues(outcome).Inc()
	if err != nil {
		p.updateFailed(ctx, w, wire, err)
		return
	}
	_, _ = io.WriteString(w, "pod updated\n")
}

func (p *Plugin) updatePod(r *http.Request, wire *interlink.CreateRequest, unknown []string) (outcome string, err error) {
	ctx := r.Context()
	key := keyOf(r, string(wire.Pod.UID))
	known, err := p.find(ctx, key)
	if err != nil {
		return outcomeFailed, err
	}
	if known == nil || !sameOrigin(known, &wire.Pod) {
		return outcomeRefused, apply.ErrAbsent
	}
	result, refusal := translate.Update(translate.Request{
		Client: r.Header.Get(interlink.HeaderClient), Pod: &wire.Pod, ConfigMaps: wire.ConfigMaps, Secrets: wire.Secrets,
		Projected: wire.ProjectedVolumes, Claims: wire.Claims, Unknown: unknown,
	}, &p.settings.Policy)
	if result.Pod == nil {
		return outcomeRefused, refusal
	}
	written, err := p.applier.Update(ctx, known, result, refusal != nil)
	p.metrics.written.Add(float64(written))
	switch {
	case err == nil && refusal != nil:
		return outcomeRefused, refusal
	case err == nil:
		logging.From(ctx).InfoContext(ctx, "pod updated", "origin", key.Origin, "originPod", wire.Pod.Namespace+"/"+wire.Pod.Name,
			"uid", key.UID, "objects", written)
		return outcomeUpdated, nil
	case final(err) || errors.Is(err, apply.ErrAbsent) || errors.Is(err, apply.ErrOver):
		return outcomeRefused, err
	}
	return outcomeFailed, err
}

// sameOrigin tells that the request comes from the cluster and the virtual node whose
// pod it is, which the client's name alone does not say.
func sameOrigin(created, wire *corev1.Pod) bool {
	return created.Annotations[interlink.AnnotationOriginCluster] == wire.Annotations[interlink.AnnotationOriginCluster] &&
		created.Annotations[interlink.AnnotationOriginNode] == wire.Annotations[interlink.AnnotationOriginNode] &&
		created.Annotations[translate.AnnotationNamespace] == wire.Namespace &&
		created.Annotations[translate.AnnotationName] == wire.Name
}

// final tells that no retry of the same update can help.
func final(err error) bool {
	var refusal *translate.RefusalError
	return errors.As(err, &refusal) || apply.IsFinal(err)
}

func (p *Plugin) updateFailed(ctx context.Context, w http.ResponseWriter, wire *interlink.CreateRequest, err error) {
	if ctx.Err() != nil {
		return // the caller has gone
	}
	code := http.StatusServiceUnavailable
	switch {
	case final(err):
		code = http.StatusUnprocessableEntity
		w.Header().Set(interlink.HeaderRefusal, "true")
	case errors.Is(err, apply.ErrAbsent):
		code = http.StatusNotFound
	case errors.Is(err, apply.ErrOver), errors.Is(err, apply.ErrUnfinished):
		code = http.StatusConflict
	}
	logging.From(ctx).WarnContext(ctx, "pod not updated", "originPod", wire.Pod.Namespace+"/"+wire.Pod.Name,
		"uid", string(wire.Pod.UID), "code", code, "error", err)
	http.Error(w, err.Error(), code)
}
