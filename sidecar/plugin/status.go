// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"net/http"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/podstate"
	"github.com/cloudveneto/caas/sidecar/plugin/request"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

// status answers a list of pods from the table, in one pass. An empty list asks
// whether the plugin works.
func (p *Plugin) status(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	data, err := p.bodies.read(w, r, p.settings.MaxStatusBytes)
	if err != nil {
		bodyError(w, err)
		return
	}
	pods, err := request.Pods(data)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if len(pods) == 0 {
		p.ping(ctx, w, r)
		return
	}
	statuses, err := p.statuses(ctx, originOf(r), pods)
	if err != nil {
		logging.From(ctx).WarnContext(ctx, "status not known", "pods", len(pods), "error", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(ctx, w, statuses)
}

// statuses answers for every pod, in the conservative form.
func (p *Plugin) statuses(ctx context.Context, origin string, pods []corev1.Pod) ([]interlink.PodStatus, error) {
	created, err := p.created(ctx, origin, pods)
	if err != nil {
		return nil, err
	}
	statuses := make([]interlink.PodStatus, 0, len(pods))
	for i := range pods {
		if remote := created[string(pods[i].UID)]; remote != nil {
			statuses = append(statuses, podstate.Conservative(&pods[i], remote))
			continue
		}
		statuses = append(statuses, podstate.Absent(&pods[i]))
	}
	return statuses, nil
}

// created returns the created pods by the UIDs of the origin's. The watch may be
// behind, so what the table does not know is asked of the cluster itself, at once
// for all: only the cluster can say that a pod is lost.
func (p *Plugin) created(ctx context.Context, origin string, pods []corev1.Pod) (map[string]*corev1.Pod, error) {
	created := make(map[string]*corev1.Pod, len(pods))
	var unknown []string
	for i := range pods {
		uid := string(pods[i].UID)
		if pod := p.table.Lookup(table.Key{Origin: origin, UID: uid}); pod != nil {
			created[uid] = pod
		} else if request.UsableUID(uid) {
			unknown = append(unknown, uid)
		}
	}
	if len(unknown) == 0 {
		return created, nil
	}
	found, err := p.applier.Find(ctx, origin, unknown)
	if err != nil {
		return nil, err
	}
	for _, pod := range found {
		created[table.KeyOf(pod).UID] = pod
	}
	return created, nil
}

// ping answers whether pods can be created now, and how much room there is.
func (p *Plugin) ping(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	if err := p.Ready(ctx); err != nil {
		logging.From(ctx).WarnContext(ctx, "ping answered: not usable", "error", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(ctx, w, p.offer(table.Selection{Origin: originOf(r)}))
}

// offer is what the pods of selection can have.
func (p *Plugin) offer(selection table.Selection) interlink.PingResponse {
	extensions := []interlink.Extension{
		interlink.ExtensionStatusStream, interlink.ExtensionReferences, interlink.ExtensionIdempotent,
		interlink.ExtensionUpdate,
		interlink.ExtensionEphemeral, interlink.ExtensionStats, interlink.ExtensionNodeLabels,
	}
	if p.settings.Policy.AsksAboutClaims() {
		extensions = append(extensions, interlink.ExtensionClaims)
	}
	if p.happened.Offered() {
		extensions = append(extensions, interlink.ExtensionEvents)
	}
	if p.upgrades != nil {
		for _, kind := range interlink.StreamKinds() {
			extensions = append(extensions, kind.Extension())
		}
	}
	return interlink.PingResponse{
		Status: "ok", Resources: p.watcher.Capacity(selection), Labels: p.watcher.Labels(), PluginExtensions: extensions,
	}
}
