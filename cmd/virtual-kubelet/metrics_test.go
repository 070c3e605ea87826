// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	main "github.com/cloudveneto/caas/cmd/virtual-kubelet"
	"github.com/cloudveneto/caas/internal/programtest"
	"github.com/cloudveneto/caas/provider/settings"
)

func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, []byte(`{apiVersion: v1, kind: Config, current-context: a,
  clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}], contexts: [{name: a, context: {cluster: a}}]}`), 0o600))
	registry := prometheus.NewRegistry()
	require.NoError(t, main.Register(kubeconfig, &settings.Settings{
		ClusterID: "af", FarEnd: settings.FarEnd{BaseURL: "http://127.0.0.1:1"}, Node: settings.Node{Name: "caas-0"},
	}, registry))
	programtest.CheckMetrics(t, "virtual-kubelet", registry)
}
