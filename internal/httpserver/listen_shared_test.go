// SPDX-License-Identifier: Apache-2.0

package httpserver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver"
)

// named answers with a name.
func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
}

// asks makes requests, each over a connection of its own, and returns how many each server answered. None may fail.
func asks(t *testing.T, address string, count int) map[string]int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	answers := map[string]int{}
	for range count {
		status, text := get(t, client, http.MethodGet, "http://"+address, nil)
		require.Equal(t, http.StatusOK, status)
		answers[text]++
	}
	return answers
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	return listener.Addr().String()
}

func TestSharedPort(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	var ready atomic.Bool
	_, stopFirst := run(t, httpserver.Config{Address: address, Handler: named("first"), ReusePort: true})
	require.Eventually(t, func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		return err == nil && conn.Close() == nil
	}, 30*time.Second, 10*time.Millisecond)
	asked := make(chan struct{})
	var once sync.Once
	run(t, httpserver.Config{
		Address: address, Handler: named("second"), ReusePort: true,
		Ready: func(context.Context) error {
			once.Do(func() { close(asked) })
			if !ready.Load() {
				return errors.New("still reading")
			}
			return nil
		},
	})
	<-asked
	assert.Equal(t, map[string]int{"first": 50}, asks(t, address, 50), "one that is not ready is asked nothing")

	ready.Store(true)
	require.Eventually(t, func() bool { return len(asks(t, address, 20)) == 2 }, 30*time.Second, 10*time.Millisecond,
		"the kernel spreads connections")
	require.NoError(t, stopFirst())
	assert.Equal(t, map[string]int{"second": 50}, asks(t, address, 50), "the other serves on")
}

func TestSharedPortEndsBeforeReady(t *testing.T) {
	t.Parallel()
	_, stop := run(t, httpserver.Config{
		Address: freeAddress(t), Handler: named("never"), ReusePort: true,
		Ready: func(context.Context) error { return errors.New("not yet") },
	})
	assert.NoError(t, stop())
}

func TestSharedPortMustBeGiven(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "unix:///tmp/x", "nonsense"} {
		_, err := httpserver.New(httpserver.Config{Address: address, Handler: named("x"), ReusePort: true})
		assert.Error(t, err, address)
	}
}
