// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"io"
	"net/http"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/request"
)

// delete removes the created pod of an origin's pod, or sees to it that it is never
// created. A pod that is unknown everywhere is deleted.
func (p *Plugin) delete(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	data, err := p.bodies.read(w, r, p.settings.MaxCreateBytes)
	if err != nil {
		bodyError(w, err)
		return
	}
	pod, err := request.Pod(data)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	key := keyOf(r, string(pod.UID))
	if err := p.applier.Delete(ctx, key, pod.DeletionGracePeriodSeconds); err != nil {
		p.metrics.deletes.WithLabelValues(outcomeFailed).Inc()
		if ctx.Err() != nil {
			return // the caller has gone, and the work goes on
		}
		logging.From(ctx).WarnContext(ctx, "pod not deleted", "origin", key.Origin, "uid", key.UID, "error", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	p.metrics.deletes.WithLabelValues(outcomeDeleted).Inc()
	logging.From(ctx).InfoContext(ctx, "pod deleted", "origin", key.Origin, "originPod", pod.Namespace+"/"+pod.Name, "uid", key.UID)
	_, _ = io.WriteString(w, "pod deleted\n")
}
