// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/offload"
)

// metric sums up figures of a path's sidecar; series is how their names with labels begin, as they are printed.
func (r *room) metric(t *testing.T, path *offload.Path, series string) float64 {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path.Dir(), "sidecar.yaml"))
	require.NoError(t, err)
	var settings struct {
		OpsListen string `json:"opsListen"`
	}
	require.NoError(t, yaml.Unmarshal(content, &settings))
	transport := &http.Transport{DialContext: network.Dialer(r.lab.NetNS())}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+settings.OpsListen+"/metrics", nil)
	require.NoError(t, err)
	answer, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, series); found {
			number, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndex(rest, " ")+1:]), 64)
			require.NoError(t, err)
			sum += number
		}
	}
	return sum
}
