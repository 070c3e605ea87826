// SPDX-License-Identifier: Apache-2.0

package kubetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/kube"
)

const dirPrefix = "kubetest-"

// Shared is one cluster for all tests of a package, started by the first that asks for it.
type Shared struct {
	opts  Options
	start func() (*kube.ControlPlane, error)

	mu  sync.Mutex
	dir string // of the cluster that was started
}

// NewShared describes the cluster; nothing is started yet.
func NewShared(opts Options) *Shared {
	s := &Shared{opts: opts}
	s.start = sync.OnceValues(s.startOnce)
	return s
}

// Main runs the tests and ends the cluster. It MUST be called by TestMain as its last statement.
func (s *Shared) Main(m *testing.M) {
	m.Run() // the testing package exits with its result when TestMain returns
	if err := s.end(); err != nil {
		fmt.Fprintln(os.Stderr, "end shared cluster:", err)
	}
}

// Cluster returns the shared cluster. Tests MUST keep out of each other's way, for instance by namespaces of their own.
func (s *Shared) Cluster(tb testing.TB) *Cluster {
	tb.Helper()
	plane, err := s.start()
	require.NoError(tb, err)
	return view(tb, plane)
}

// startOnce starts the cluster under no test's context, because it outlives the test that asked first.
func (s *Shared) startOnce() (*kube.ControlPlane, error) {
	removeStale()
	dir, err := os.MkdirTemp("", dirPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.dir = dir
	s.mu.Unlock()
	logf := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	return start(context.Background(), filepath.Join(dir, "cluster"), s.opts, logf)
}

func (s *Shared) end() error {
	s.mu.Lock()
	dir := s.dir
	s.mu.Unlock()
	if dir == "" {
		return nil
	}
	plane, err := s.start()
	if err != nil {
		return os.RemoveAll(dir) // the tests have reported why, and nothing runs
	}
	return errors.Join(plane.Kill(), os.RemoveAll(dir))
}

// removeStale removes directories of test binaries that were killed; the kernel killed their clusters with them.
func removeStale() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*-*")) // the pattern is well-formed
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		owner, err := strconv.Atoi(pid)
		if err == nil && errors.Is(syscall.Kill(owner, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // another user's cannot be removed, and need not be
		}
	}
}
