// SPDX-License-Identifier: Apache-2.0

package programtest_test

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/programtest"
)

func TestProcess(t *testing.T) {
	t.Parallel()
	const script = `trap 'echo ending >&2; exit 0' TERM; echo begun; while :; do sleep 0.01; done`
	first := programtest.Start(t, exec.CommandContext(t.Context(), "sh", "-c", script))
	require.Eventually(t, func() bool { return strings.Contains(first.String(), "begun\n") }, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, syscall.Kill(first.PID(), 0))
	require.NoError(t, first.End(syscall.SIGTERM), first)
	assert.Equal(t, "begun\nending\n", first.String())
	require.Error(t, first.End(syscall.SIGTERM), "it has ended")

	second := programtest.Start(t, exec.CommandContext(t.Context(), "sh", "-c", script))
	require.ErrorContains(t, second.End(syscall.SIGKILL), "killed")
}

func TestProcessEndsWithItsTest(t *testing.T) {
	t.Parallel()
	var pid int
	t.Run("leaves it", func(t *testing.T) {
		pid = programtest.Start(t, exec.Command("sleep", "600")).PID() //nolint:noctx // it is to outlive the context
	})
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
}

func TestFreeAddress(t *testing.T) {
	t.Parallel()
	assert.Regexp(t, `^127\.0\.0\.1:[0-9]+$`, programtest.FreeAddress(t))
}
