// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	main "github.com/cloudveneto/caas/cmd/interlink-sidecar"
	"github.com/cloudveneto/caas/internal/programtest"
)

const anywhere = `{apiVersion: v1, kind: Config, current-context: a, clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}],
  contexts: [{name: a, context: {cluster: a}}]}`

// TestMetricsAreDocumented: with clients, all metrics but those about clients have their names as one more label.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, []byte(anywhere), 0o600))
	content := "kubeconfig: " + kubeconfig + "\nnamespace: {mode: fixed, fixed: cms}\n"
	alone, several := prometheus.NewRegistry(), prometheus.NewRegistry()
	require.NoError(t, main.Register(content, alone))
	require.NoError(t, main.Register(content+"clients: {af: {}, bari: {namespace: {mode: fixed, fixed: bari}}}\n", several))
	programtest.CheckMetrics(t, "interlink-sidecar", alone)
	documented := programtest.Documented(t, "interlink-sidecar with clients")
	for name, metric := range programtest.Registered(t, several) {
		without, common := programtest.Registered(t, alone)[name]
		if !common {
			assert.Equal(t, metric, documented[name], name)
			delete(documented, name)
			continue
		}
		assert.Contains(t, metric.Labels, "client", name)
		metric.Labels = slices.DeleteFunc(metric.Labels, func(label string) bool { return label == "client" })
		assert.Equal(t, without, metric, name)
	}
	assert.Empty(t, documented, "the program has no such metrics")
}
