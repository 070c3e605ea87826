// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/service"
)

// TestDeadConnections are given up before a node's lease runs out, unless somebody says otherwise.
func TestDeadConnections(t *testing.T) {
	const idle, ping = "HTTP2_READ_IDLE_TIMEOUT_SECONDS", "HTTP2_PING_TIMEOUT_SECONDS"
	t.Setenv(idle, "7")
	t.Setenv(ping, "") // for putting it back
	require.NoError(t, os.Unsetenv(ping))
	_, flush, err := service.Observe(t.Context(), "test")
	require.NoError(t, err)
	t.Cleanup(flush)
	assert.Equal(t, "7", os.Getenv(idle))
	assert.Equal(t, "5", os.Getenv(ping))
}
