// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"slices"

	"github.com/gorilla/mux"

	"github.com/cloudveneto/caas/internal/interlink"
)

// maxRelayed bounds the plugin's answer to a relayed request.
const maxRelayed = 64 << 20

// relay passes a short request of an extension on to the plugin, and its answer
// back, with the same bounds as upstream's requests have.
func (g *Gateway) relay(x *exchange, needed interlink.Extension) error {
	ctx := x.r.Context()
	if uid, asked := mux.Vars(x.r)["uid"]; asked && !isUID(uid) {
		return refuse(http.StatusBadRequest, "the pod's UID is not a lower-case UUID")
	}
	offered, err := g.plugin.offers(ctx, x)
	if err != nil {
		return err
	}
	if !slices.Contains(offered, needed) {
		return refuse(http.StatusNotFound, "the interLink plugin does not offer %.100s", x.r.URL.Path)
	}
	body, release, err := g.body(x)
	if err != nil {
		return err
	}
	defer release()
	answer, err := g.plugin.call(ctx, x, message{
		method: x.r.Method, path: x.r.URL.RequestURI(), body: body, repeatable: true,
	}, maxRelayed)
	if err != nil {
		return err
	}
	x.answer(contentJSON, answer)
	return nil
}

func (g *Gateway) stats(x *exchange) error { return g.relay(x, interlink.ExtensionStats) }

func (g *Gateway) ephemeral(x *exchange) error { return g.relay(x, interlink.ExtensionEphemeral) }
