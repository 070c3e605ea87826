// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"slices"

	"github.com/cloudveneto/caas/internal/interlink"
)

// update passes on what a pod and its objects have become. The plugin sees to it that
// the pod is one of this caller's.
func (g *Gateway) update(x *exchange) error {
	ctx := x.r.Context()
	uid, ok := interlink.ParsePodUpdatePath(x.r.URL.Path)
	if !ok || !isUID(uid) {
		return refuse(http.StatusBadRequest, "the pod's UID is not a lower-case UUID")
	}
	offered, err := g.plugin.offers(ctx, x)
	switch {
	case err != nil:
		return err
	case !slices.Contains(offered, interlink.ExtensionUpdate):
		return refuse(http.StatusNotImplemented, "the interLink plugin does not offer updates of pods")
	}
	body, release, err := g.body(x)
	if err != nil {
		return err
	}
	defer release()
	answer, err := g.plugin.call(ctx, x, message{
		method: http.MethodPost, path: interlink.PodUpdatePath(uid), body: body, repeatable: true,
	}, maxAnswer)
	if err != nil {
		return err
	}
	x.answer(contentText, answer)
	return nil
}
