// SPDX-License-Identifier: Apache-2.0

package tokencache_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/login/tokencache"
)

// clock and tokens that last for 100 seconds.
type world struct {
	tokencache.Cache

	now    time.Time
	made   atomic.Int32
	away   error
	valid  bool
	asked  int
	unsure error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC), valid: true}
	w.Cache = tokencache.Cache{Dir: filepath.Join(t.TempDir(), "cache"), Now: func() time.Time { return w.now }}
	return w
}

func (w *world) source() tokencache.Source {
	return tokencache.Source{
		Fetch: func(context.Context) (tokencache.Token, error) {
			if w.away != nil {
				return tokencache.Token{}, w.away
			}
			return tokencache.Token{Value: "t" + strconv.Itoa(int(w.made.Add(1))), Issued: w.now, Expires: w.now.Add(100 * time.Second)}, nil
		},
		Valid: func(context.Context, tokencache.Token) (bool, error) {
			w.asked++
			return w.valid, w.unsure
		},
		Final: func(err error) bool { return errors.Is(err, errFinal) },
	}
}

var (
	errAway  = errors.New("away")
	errFinal = errors.New("no more")
)

func (w *world) get(t *testing.T, caller tokencache.Caller) string {
	t.Helper()
	token, err := w.Get(t.Context(), tokencache.Key("a"), caller, w.source())
	require.NoError(t, err)
	return token.Value
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	assert.Equal(t, "t1", w.get(t, "kubectl-1"))
	w.now = w.now.Add(79 * time.Second)
	assert.Equal(t, "t1", w.get(t, "kubectl-2"))
	w.now = w.now.Add(2 * time.Second)
	assert.Equal(t, "t2", w.get(t, "kubectl-2"), "at 80 % of its life there is a new one")
	assert.Zero(t, w.asked)
	other, err := w.Get(t.Context(), tokencache.Key("b"), "", w.source())
	require.NoError(t, err)
	assert.Equal(t, "t3", other.Value, "another key is another token")
}

func TestKeystoneIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	assert.Equal(t, "t1", w.get(t, "p"))
	w.away = errAway
	w.now = w.now.Add(90 * time.Second)
	assert.Equal(t, "t1", w.get(t, "p"), "it works still")
	w.away = errFinal
	_, err := w.Get(t.Context(), tokencache.Key("a"), "p", w.source())
	require.ErrorIs(t, err, errFinal, "there shall be no more")
	w.away = errAway
	w.now = w.now.Add(11 * time.Second)
	_, err = w.Get(t.Context(), tokencache.Key("a"), "p", w.source())
	require.ErrorIs(t, err, errAway)
}

func TestRefusedTokensAreReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	assert.Equal(t, "t1", w.get(t, "sidecar"))
	assert.Equal(t, "t1", w.get(t, "kubectl"))
	assert.Zero(t, w.asked, "nobody has been refused")
	assert.Equal(t, "t1", w.get(t, "sidecar"))
	assert.Equal(t, 1, w.asked, "who asks again may have been")
	w.unsure = errAway
	assert.Equal(t, "t1", w.get(t, "sidecar"))
	w.unsure, w.valid = nil, false
	assert.Equal(t, "t2", w.get(t, "sidecar"))
	w.away = errAway
	_, err := w.Get(t.Context(), tokencache.Key("a"), "sidecar", w.source())
	require.ErrorIs(t, err, errAway, "one that does not work is not handed out again")
}

func TestOneLoginForMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			token, err := w.Get(t.Context(), tokencache.Key("a"), "", w.source())
			assert.NoError(t, err)
			assert.Equal(t, "t1", token.Value)
		})
	}
	all.Wait()
	assert.EqualValues(t, 1, w.made.Load())
}

func TestOnlyForTheirUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, os.MkdirAll(w.Dir, 0o755))
	w.get(t, "p")
	path := filepath.Join(w.Dir, tokencache.Key("a")+".json")
	for name, want := range map[string]os.FileMode{w.Dir: 0o700, path: 0o600} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		assert.Equal(t, want, info.Mode().Perm(), name)
	}
	// What others could have written is not believed.
	require.NoError(t, os.Chmod(path, 0o666))
	assert.Equal(t, "t2", w.get(t, "p"))
	for _, bad := range []string{"", "{", `{"token":"x"}`, `{"token":"","expires":"2030-01-01T00:00:00Z"}`, "null"} {
		require.NoError(t, os.WriteFile(path, []byte(bad), 0o600))
		before := w.made.Load()
		w.get(t, "p")
		assert.Equal(t, before+1, w.made.Load(), bad)
	}
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink("/etc/hostname", path))
	w.get(t, "p")
	info, err := os.Lstat(path)
	require.NoError(t, err)
	assert.True(t, info.Mode().IsRegular(), "the link is replaced, not followed")
}

func TestNowhereToKeepIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Dir = "/proc/nonexistent"
	assert.Equal(t, "t1", w.get(t, "p"))
	assert.Equal(t, "t2", w.get(t, "p"))
}

func TestForget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.get(t, "p")
	token, found, err := w.Forget(t.Context(), tokencache.Key("a"))
	require.NoError(t, err)
	assert.True(t, found)
	assert.Equal(t, "t1", token.Value)
	_, found, err = w.Forget(t.Context(), tokencache.Key("a"))
	require.NoError(t, err)
	assert.False(t, found)
	assert.Equal(t, "t2", w.get(t, "p"))
}
