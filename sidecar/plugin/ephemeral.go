// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"net/http"

	"github.com/gorilla/mux"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/apply"
	"github.com/cloudveneto/caas/sidecar/plugin/request"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// ephemeral adds ephemeral containers (kubectl debug) to a created pod, by the
// policy that its containers went through.
func (p *Plugin) ephemeral(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	data, err := p.bodies.read(w, r, p.settings.MaxCreateBytes)
	if err != nil {
		bodyError(w, err)
		return
	}
	origin, unknown, err := request.Ephemeral(data)
	if err == nil && string(origin.UID) != mux.Vars(r)["uid"] {
		err = errors.New("the pod is not the one of the path")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pod, err := p.find(ctx, keyOf(r, string(origin.UID)))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if pod == nil || !sameOrigin(pod, origin) {
		http.Error(w, "the target cluster does not hold this pod", http.StatusNotFound)
		return
	}
	wanted := translate.Request{Client: r.Header.Get(interlink.HeaderClient), Pod: origin, Unknown: unknown}
	if err := p.addEphemeral(ctx, pod, wanted); err != nil {
		p.ephemeralFailed(ctx, w, pod, err)
		return
	}
	logging.From(ctx).InfoContext(ctx, "ephemeral containers added", "pod", pod.Namespace+"/"+pod.Name,
		"uid", string(origin.UID), "containers", len(origin.Spec.EphemeralContainers))
	answer(ctx, w, interlink.Created{PodUID: string(origin.UID), PodJID: pod.Namespace + "/" + pod.Name})
}

// errEnding says that no container can be added any more.
var errEnding = errors.New("the pod has ended or is being deleted")

func (p *Plugin) addEphemeral(ctx context.Context, pod *corev1.Pod, wanted translate.Request) error {
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return errEnding
	}
	containers, err := translate.Ephemeral(wanted, &p.settings.Policy)
	if err != nil || len(containers) == 0 {
		return err
	}
	return p.applier.AddEphemeral(ctx, pod, containers)
}

func (p *Plugin) ephemeralFailed(ctx context.Context, w http.ResponseWriter, pod *corev1.Pod, err error) {
	var refusal *translate.RefusalError
	code := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, errEnding):
		code = http.StatusConflict
	case errors.As(err, &refusal), apply.IsFinal(err):
		code = http.StatusUnprocessableEntity
	}
	logging.From(ctx).WarnContext(ctx, "ephemeral containers not added", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	if code != http.StatusServiceUnavailable {
		w.Header().Set(interlink.HeaderRefusal, "true")
	}
	http.Error(w, err.Error(), code)
}
