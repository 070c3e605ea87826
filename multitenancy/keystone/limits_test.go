// SPDX-License-Identifier: Apache-2.0

package keystone_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/keystone"
	"github.com/cloudveneto/caas/multitenancy/keystone/keystonetest"
)

func TestOneQuestionForAll(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	token := keystonetest.Fernet()
	server.Add(token, keystonetest.Token())
	release := make(chan struct{})
	server.Fail(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		http.Error(w, "busy", http.StatusServiceUnavailable)
	})
	v := verifier(t, server, func(c *keystone.Config) { c.Limits.Timeout = 10 * time.Second })
	impatient, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		_, err := v.Verify(impatient, token)
		assert.ErrorIs(t, err, context.Canceled)
	})
	require.Eventually(t, func() bool { return len(server.Requests()) == 1 }, 5*time.Second, time.Millisecond)
	for range 50 {
		group.Go(func() {
			_, err := v.Verify(t.Context(), token)
			assert.NoError(t, err, "who asked first going away changes nothing")
		})
	}
	cancel()
	time.Sleep(50 * time.Millisecond)
	close(release)
	group.Wait()
	assert.Len(t, server.Requests(), 2, "one, and its second try")
}

// TestNobodyElsesToken asks for many tokens at once: each question must go out with its own.
func TestNobodyElsesToken(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	v := verifier(t, server, func(c *keystone.Config) { c.Limits.Rate = 1e6; c.Limits.Timeout = 20 * time.Second })
	var group sync.WaitGroup
	for number := range 500 {
		token, description := keystonetest.Fernet(), keystonetest.Token()
		id := strings.Repeat("0", 29) + string([]byte{'0' + byte(number/100), '0' + byte(number/10%10), '0' + byte(number%10)})
		description["user"] = keystonetest.Object{"id": id, "name": "u", "domain": keystonetest.Object{"id": "default"}}
		server.Add(token, description)
		group.Go(func() {
			got, err := v.Verify(t.Context(), token)
			assert.NoError(t, err)
			assert.Equal(t, id, got.UID)
		})
	}
	group.Wait()
	for _, header := range server.Requests() {
		require.Equal(t, header.Get("X-Subject-Token"), header.Get("X-Auth-Token"))
	}
}

func TestInFlight(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	var running, most atomic.Int32
	for range 20 {
		server.Fail(func(w http.ResponseWriter, _ *http.Request) {
			now := running.Add(1)
			defer running.Add(-1)
			for {
				seen := most.Load()
				if now <= seen || most.CompareAndSwap(seen, now) {
					break
				}
			}
			time.Sleep(10 * time.Millisecond)
			http.Error(w, "", http.StatusNotFound)
		})
	}
	v := verifier(t, server, func(c *keystone.Config) { c.Limits.InFlight = 3; c.Limits.Timeout = 10 * time.Second })
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			_, err := v.Verify(t.Context(), keystonetest.Fernet())
			assert.Equal(t, keystone.ReasonUnknown, reason(err))
		})
	}
	group.Wait()
	assert.LessOrEqual(t, most.Load(), int32(3))
}

func TestRate(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	v := verifier(t, server, func(c *keystone.Config) { c.Limits.Rate = 1 })
	var skipped int
	for range 50 {
		if _, err := v.Verify(t.Context(), keystonetest.Fernet()); reason(err) == "" {
			require.Error(t, err)
			skipped++
		}
	}
	assert.GreaterOrEqual(t, skipped, 40)
	assert.LessOrEqual(t, len(server.Requests()), 10)
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	var moved clock
	v := verifier(t, server, func(c *keystone.Config) { c.Now = moved.now; c.Limits.BreakAfter = 2 })
	fail := func(times int) {
		for range 2 * times {
			server.Fail(keystonetest.Status(503))
		}
	}
	ask := func() error {
		_, err := v.Verify(t.Context(), keystonetest.Fernet())
		return err
	}
	fail(3)
	require.Error(t, ask())
	require.NoError(t, v.Available())
	require.Error(t, ask())
	require.Error(t, v.Available())
	requests := len(server.Requests())
	require.ErrorContains(t, ask(), "did not answer")
	assert.Len(t, server.Requests(), requests, "it is left in peace")

	moved.forward(6 * time.Second)
	require.Error(t, ask(), "one is let through, and fails again")
	assert.Len(t, server.Requests(), requests+2)
	require.ErrorContains(t, ask(), "did not answer")

	moved.forward(6 * time.Second)
	assert.Equal(t, keystone.ReasonUnknown, reason(ask()), "no is an answer too")
	require.NoError(t, v.Available())
	assert.Equal(t, keystone.ReasonUnknown, reason(ask()))
}

// TestBreakerByStatus has Keystone answer each of many questions with one status.
func TestBreakerByStatus(t *testing.T) {
	t.Parallel()
	for status, leftAlone := range map[int]bool{400: false, 403: false, 404: false, 405: false, 414: false, 431: false, 429: true, 500: true, 502: true} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			server := keystonetest.Start(t)
			v := verifier(t, server, func(c *keystone.Config) { c.Limits.BreakAfter = 2 })
			for range 4 {
				server.Fail(keystonetest.Status(status), keystonetest.Status(status))
				_, err := v.Verify(t.Context(), keystonetest.Fernet())
				require.Error(t, err)
			}
			assert.Equal(t, leftAlone, v.Available() != nil)
		})
	}
}

// TestBreakerOfTheServiceUser has Keystone refuse the service user: the password is not tried for each token.
func TestBreakerOfTheServiceUser(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	v := verifier(t, server, func(c *keystone.Config) {
		c.Limits.BreakAfter = 2
		c.Service = &keystone.Credential{UserName: "nobody", Project: "service", Password: func() (string, error) { return "wrong", nil }}
	})
	for range 10 {
		_, err := v.Verify(t.Context(), keystonetest.Fernet())
		require.Error(t, err)
		require.Empty(t, reason(err))
	}
	assert.Error(t, v.Available())
}

func TestNothingIsLogged(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	var log bytes.Buffer
	ctx := logging.Into(t.Context(), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	v := verifier(t, server, nil)
	for _, status := range []int{401, 403, 404, 429, 500} {
		token := keystonetest.Fernet()
		server.Fail(keystonetest.Status(status), keystonetest.Status(status))
		_, err := v.Verify(ctx, token)
		require.Error(t, err)
		assert.NotContains(t, err.Error()+log.String(), token)
	}
	assert.Contains(t, log.String(), "self-validation", "who forbids it has to know")
}
