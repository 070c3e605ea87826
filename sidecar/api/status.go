// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
)

// statusPod is a pod of a /status request, as it came.
type statusPod struct {
	uid   string
	phase corev1.PodPhase
	raw   json.RawMessage
}

// UnmarshalJSON keeps the text and looks at UID and phase.
func (p *statusPod) UnmarshalJSON(text []byte) error {
	var view struct {
		Metadata metadata `json:"metadata"`
		Status   struct {
			Phase corev1.PodPhase `json:"phase"`
		} `json:"status"`
	}
	if err := json.Unmarshal(text, &view); err != nil {
		return err
	}
	p.uid, p.phase, p.raw = view.Metadata.UID, view.Status.Phase, bytes.Clone(text)
	return nil
}

// ended reports whether the caller already knows that the pod is over.
func (p statusPod) ended() bool {
	return p.phase == corev1.PodSucceeded || p.phase == corev1.PodFailed
}

// pluginStatus is an interlink.PodStatus, as it came.
type pluginStatus struct {
	uid string
	raw json.RawMessage
}

// UnmarshalJSON keeps the text and looks at the UID.
func (s *pluginStatus) UnmarshalJSON(text []byte) error {
	var view struct {
		UID string `json:"UID"`
	}
	if err := json.Unmarshal(text, &view); err != nil {
		return err
	}
	s.uid, s.raw = view.UID, bytes.Clone(text)
	return nil
}

// status answers /status: one call of the plugin for all pods that may have
// changed, then each pod from the cache. An empty list asks for the whole cache.
func (g *Gateway) status(x *exchange) error {
	body, release, err := g.body(x)
	if err != nil {
		return err
	}
	defer release()
	var pods []statusPod
	if len(bytes.TrimSpace(body)) > 0 {
		if err := json.Unmarshal(body, &pods); err != nil {
			return refuse(http.StatusBadRequest, "status: request body is no list of pods: %s", describe(err))
		}
	}
	if len(pods) == 0 {
		x.answer(contentJSON, listOf(g.cache.all(x.client)))
		return nil
	}
	if err := g.refresh(x, pods); err != nil {
		return err
	}
	statuses := make([]json.RawMessage, 0, len(pods))
	for _, pod := range pods {
		if status := g.cache.get(x.client, pod.uid); status != nil {
			statuses = append(statuses, status)
		}
	}
	x.answer(contentJSON, listOf(statuses))
	return nil
}

// refresh asks the plugin for the pods that may have changed.
func (g *Gateway) refresh(x *exchange, pods []statusPod) error {
	asked := make(map[string]bool, len(pods))
	question := make([]json.RawMessage, 0, len(pods))
	for _, pod := range pods {
		if pod.uid == "" {
			return refuse(http.StatusBadRequest, "status: a pod has no metadata.uid")
		}
		if !pod.ended() || g.cache.get(x.client, pod.uid) == nil {
			asked[pod.uid] = true
			question = append(question, pod.raw)
		}
	}
	if len(question) == 0 {
		return nil
	}
	body := listOf(question)
	begun := g.cache.begin()
	ctx := x.r.Context()
	answer, err := g.plugin.call(ctx, x, message{method: http.MethodGet, path: interlink.PathStatus, body: body}, maxStatuses)
	if err != nil {
		return err
	}
	var statuses []pluginStatus
	if err := json.Unmarshal(answer, &statuses); err != nil {
		logging.From(ctx).WarnContext(ctx, "plugin answered no list of statuses", "problem", describe(err))
		return refuse(http.StatusInternalServerError, "status: the interLink plugin's answer is not valid")
	}
	for _, status := range statuses {
		if asked[status.uid] {
			g.cache.put(x.client, status.uid, status.raw, begun)
		}
	}
	return nil
}

// listOf writes a JSON list of texts that have been checked already; encoding/json
// would check them again, which counts with a thousand pods.
func listOf(elements []json.RawMessage) []byte {
	size := 2
	for _, element := range elements {
		size += len(element) + 1
	}
	list := append(make([]byte, 0, size), '[')
	for i, element := range elements {
		if i > 0 {
			list = append(list, ',')
		}
		list = append(list, element...)
	}
	return append(list, ']')
}

// delete answers /delete. Like a create it is finished even if the caller
// leaves; unlike one it may always be repeated.
func (g *Gateway) delete(x *exchange) error {
	body, release, err := g.body(x)
	if err != nil {
		return err
	}
	defer release()
	var pod podView
	if err := json.Unmarshal(body, &pod); err != nil {
		return refuse(http.StatusBadRequest, "delete: request body is no pod: %s", describe(err))
	}
	if pod.Metadata.UID == "" {
		return refuse(http.StatusBadRequest, "delete: the request holds no pod with a metadata.uid")
	}
	g.cache.drop(x.client, pod.Metadata.UID)
	ctx := x.r.Context()
	answer, err := g.plugin.call(context.WithoutCancel(ctx), x, message{
		method: http.MethodPost, path: interlink.PathDelete, body: body, repeatable: true,
	}, maxAnswer)
	if err != nil {
		return err
	}
	// Statuses asked for while the plugin was deleting are old news too.
	g.cache.drop(x.client, pod.Metadata.UID)
	logging.From(ctx).InfoContext(ctx, "pod deleted", "pod", pod.Metadata)
	x.answer(contentText, answer)
	return nil
}

// updateCache answers /updateCache: the body is the bare UID of a pod to forget,
// or a pod, which upstream's virtual kubelet sends.
func (g *Gateway) updateCache(x *exchange) error {
	body, release, err := g.body(x)
	if err != nil {
		return err
	}
	defer release()
	var pod podView
	uid := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &pod) == nil {
		uid = pod.Metadata.UID
	}
	if len(uid) <= 128 && uid != "" {
		g.cache.drop(x.client, uid)
	}
	x.answer(contentText, []byte("Updated cache"))
	return nil
}
