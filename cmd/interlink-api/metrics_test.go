// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	main "github.com/cloudveneto/caas/cmd/interlink-api"
	"github.com/cloudveneto/caas/internal/programtest"
)

func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	require.NoError(t, main.Register(registry))
	programtest.CheckMetrics(t, "interlink-api", registry)
}
