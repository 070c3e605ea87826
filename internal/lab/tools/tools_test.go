// SPDX-License-Identifier: Apache-2.0

//go:build integration

package tools_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/tools"
)

// TestPrograms builds both and has them say what they are. Both builds take minutes unless they are in the cache.
func TestPrograms(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		build func(context.Context, gobuild.Config) (string, error)
		args  []string
		says  string
	}{
		"helm":           {tools.Helm, []string{"version", "--template={{.Version}}"}, "v4."},
		"metrics-server": {tools.MetricsServer, []string{"--help"}, "Launch metrics-server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := one.build(t.Context(), gobuild.Config{})
			require.NoError(t, err)
			info, err := os.Stat(path)
			require.NoError(t, err)
			assert.NotZero(t, info.Mode()&0o100, "it can be run")
			out, err := exec.CommandContext(t.Context(), path, one.args...).CombinedOutput()
			require.NoError(t, err, "%s", out)
			assert.Contains(t, string(out), one.says)
		})
	}
}
