// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCommand runs the real program as far as it goes without a lab; the rest is in test/e2e.
func TestCommand(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "caas-lab")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)

	tests := map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"help names the commands":    {args: []string{"--help"}, stdout: "kubeconfig"},
		"help hides the lab's own":   {args: []string{"help", "node-init"}, stdout: "node-init CONFIG"},
		"no labs":                    {args: []string{"ls"}},
		"status of nothing":          {args: []string{"status"}, code: 1, stderr: `no such lab: "lab"`},
		"kubectl without a lab":      {args: []string{"--name", "other", "kubectl", "caas", "--", "get", "pods"}, code: 1, stderr: `no such lab: "other"`},
		"kubectl without a cluster":  {args: []string{"kubectl"}, code: 1, stderr: "requires at least 1 arg"},
		"name that cannot be":        {args: []string{"--name", "Not Good", "up"}, code: 1, stderr: `lab name "Not Good"`},
		"node count that cannot be":  {args: []string{"up", "--caas-nodes", "400"}, code: 1, stderr: "cannot have 400 nodes"},
		"source that is none":        {args: []string{"up", "--source", "/"}, code: 1, stderr: "is not the source tree"},
		"scenarios by name":          {args: []string{"help", "bench"}, stdout: "  waves    dask workers, a Deployment each"},
		"scenario that is none":      {args: []string{"bench", "--scenarios", "waves,none", "--idle", "0"}, code: 1, stderr: "no scenario \"none\": there are one, twenty, logs, bursts, waves, status, idle\n--idle: 0: want"},
		"a node's holder outside it": {args: []string{"node-init", "/nonexistent"}, code: 1, stderr: "read node configuration"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), program, tc.args...)
			cmd.Env = append(os.Environ(), "CAAS_LAB_STATE="+t.TempDir(), "CAAS_LAB_NAME=")
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			var failed *exec.ExitError
			if tc.code == 0 {
				require.NoError(t, err, stderr.String())
			} else {
				require.True(t, errors.As(err, &failed), "%v", err)
				assert.Equal(t, tc.code, failed.ExitCode())
			}
			assert.Contains(t, stdout.String(), tc.stdout)
			assert.Contains(t, stderr.String(), tc.stderr)
		})
	}
}
