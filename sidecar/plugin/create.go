// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/apply"
	"github.com/cloudveneto/caas/sidecar/plugin/request"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// create makes one pod of an origin run in the target cluster. A pod that was
// created before is answered from the table, without a request to the cluster.
func (p *Plugin) create(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	data, done, ok := p.takeTurn(w, r)
	defer done()
	if !ok {
		return
	}
	wire, unknown, err := request.Create(data)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	job, outcome, err := p.createPod(ctx, r.Header.Get(interlink.HeaderClient), wire, unknown)
	p.metrics.creates.WithLabelValues(outcome).Inc()
	if err != nil {
		p.createFailed(ctx, w, wire, err)
		return
	}
	answer(ctx, w, interlink.Created{PodUID: string(wire.Pod.UID), PodJID: job})
}

func (p *Plugin) createPod(ctx context.Context, client string, wire *interlink.PluginPod, unknown []string) (job, outcome string, err error) {
	key := table.Key{Origin: translate.OriginLabel(client), UID: string(wire.Pod.UID)}
	if job, known := p.applier.Known(key); known {
		return job, outcomeKnown, nil
	}
	namespace, err := p.settings.Namespace.target(wire.Pod.Namespace)
	if err != nil {
		return "", outcomeRefused, err
	}
	wanted := translate.FromWire(client, wire)
	wanted.Unknown = unknown
	result, err := translate.Pod(wanted, &p.settings.Policy)
	if err != nil {
		return "", outcomeRefused, err
	}
	job, err = p.applier.Create(ctx, key, namespace, result)
	switch {
	case err == nil:
		logging.From(ctx).InfoContext(ctx, "pod created", "origin", key.Origin, "originPod", wire.Pod.Namespace+"/"+wire.Pod.Name,
			"uid", key.UID, "pod", job, "changes", len(result.Report))
		return job, outcomeCreated, nil
	case errors.Is(err, apply.ErrDeleted):
		return "", outcomeDeleted, err
	case apply.IsFinal(err):
		return "", outcomeRefused, err
	case errors.Is(err, apply.ErrShare):
		return "", outcomeShare, err
	}
	return "", outcomeFailed, err
}

// createFailed answers a create that did not happen. HeaderRefusal tells senders
// which know it that no retry can help; upstream's never retry.
func (p *Plugin) createFailed(ctx context.Context, w http.ResponseWriter, wire *interlink.PluginPod, err error) {
	var refusal *translate.RefusalError
	var missing *translate.MissingError
	code, final := http.StatusServiceUnavailable, false
	switch {
	case errors.As(err, &refusal), apply.IsFinal(err):
		code, final = http.StatusUnprocessableEntity, true
	case errors.Is(err, apply.ErrDeleted):
		code, final = http.StatusConflict, true
	case errors.As(err, &missing):
		code = http.StatusUnprocessableEntity
	case ctx.Err() != nil:
		return // the caller has gone, and the work goes on
	}
	logging.From(ctx).WarnContext(ctx, "pod not created", "originPod", wire.Pod.Namespace+"/"+wire.Pod.Name,
		"uid", string(wire.Pod.UID), "final", final, "error", err)
	if final {
		w.Header().Set(interlink.HeaderRefusal, "true")
	}
	http.Error(w, err.Error(), code)
}

// answer writes a JSON answer.
func answer(ctx context.Context, w http.ResponseWriter, message any) {
	encoded, err := json.Marshal(message)
	if err != nil {
		logging.From(ctx).ErrorContext(ctx, "answer not encoded", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(encoded); err != nil {
		logging.From(ctx).DebugContext(ctx, "answer not delivered", "error", err)
	}
}
