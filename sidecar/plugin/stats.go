// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net/http"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

// stats tells what the pods of one virtual node use.
func (p *Plugin) stats(w http.ResponseWriter, r *http.Request) {
	ctx, query := r.Context(), r.URL.Query()
	measured, err := p.measured.Pods(ctx, table.Selection{
		Origin: originOf(r), Cluster: query.Get(interlink.QueryCluster), Node: query.Get(interlink.QueryNode),
	})
	if err != nil {
		return // the caller has gone
	}
	answer(ctx, w, measured)
}
