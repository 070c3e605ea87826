// SPDX-License-Identifier: Apache-2.0

package bench_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/internal/httpserver"
)

// startOps serves this process' profiles as programs do.
func startOps(t *testing.T, pprof bool) string {
	t.Helper()
	server, err := httpserver.NewOps(httpserver.OpsConfig{Address: "127.0.0.1:0", Pprof: pprof})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var serving errgroup.Group
	serving.Go(func() error { return server.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, serving.Wait())
	})
	return server.Addr().String()
}

//nolint:paralleltest // there is one profile of the processor in a process
func TestProfiles(t *testing.T) {
	program := bench.Program{Name: "program", PID: os.Getpid(), Ops: startOps(t, true)}
	profiler := bench.Profiler{Client: &http.Client{}, Dir: t.TempDir(), Slice: 1}
	failure := errors.New("no")
	err := profiler.During(t.Context(), "one", []bench.Program{program}, func(context.Context) error { return failure })
	require.ErrorIs(t, err, failure)
	for _, name := range []string{"cpu-001", "heap-after", "goroutine-after"} {
		content, err := os.ReadFile(filepath.Join(profiler.Dir, "one", "program."+name+".pprof"))
		require.NoError(t, err)
		assert.Equal(t, "\x1f\x8b", string(content[:2]), "%s is compressed with gzip, as profiles are", name)
	}
	live, err := profiler.Live(t.Context(), program)
	require.NoError(t, err)
	assert.Greater(t, live, 100_000.0)

	silent := bench.Profiler{Client: profiler.Client}
	require.NoError(t, silent.During(t.Context(), "two", []bench.Program{program}, func(context.Context) error { return nil }))
	assert.NoDirExists(t, filepath.Join(profiler.Dir, "two"))
}

//nolint:paralleltest // as above
func TestProfilesThatNobodyServes(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	for name, test := range map[string]struct{ ops, want string }{
		"not asked for": {startOps(t, false), "profile of program: 404 Not Found"},
		"gone":          {listener.Addr().String(), "connection refused"},
	} {
		profiler := bench.Profiler{Client: &http.Client{}, Dir: t.TempDir(), Slice: 1}
		program := bench.Program{Name: "program", Ops: test.ops}
		ran := false
		err := profiler.During(t.Context(), "one", []bench.Program{program}, func(context.Context) error { ran = true; return nil })
		require.ErrorContains(t, err, test.want, name)
		assert.True(t, ran, "the figures are not lost with the profiles")
		_, err = profiler.Live(t.Context(), program)
		require.ErrorContains(t, err, test.want, name)
	}
}
