// SPDX-License-Identifier: Apache-2.0

package interlink_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/interlink"
)

func TestOperation(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		interlink.PathPing: "ping", interlink.PathCreate: "create", interlink.PathStatus: "status", interlink.PathDelete: "delete",
		interlink.PathLogs: "logs", interlink.PathUpdateCache: "updatecache", interlink.PathWatch + "?node=n": "watch",
		interlink.PathStats: "stats", interlink.PodUpdatePath("u-1"): "update", interlink.EphemeralPath("u-1"): "ephemeral",
		interlink.PodStreamPath("u-1", interlink.StreamExec):        "exec",
		interlink.PodStreamPath("u-1", interlink.StreamAttach):      "attach",
		interlink.PodStreamPath("u-1", interlink.StreamPortForward): "portforward",
		"/caas/v1/pods/u-1/else":                                    "other", "/caas/v1/else": "other", "/": "other",
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://far"+path, http.NoBody)
		require.NoError(t, err)
		assert.Equal(t, want, interlink.Operation(r), path)
	}
}
