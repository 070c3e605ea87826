// SPDX-License-Identifier: Apache-2.0

//go:build integration

package authz_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/multitenancy/authz"
)

// ice makes connections that can be frozen: nothing comes through any more, and nobody is told.
type ice struct {
	mu     sync.Mutex
	frozen chan struct{} // nil while connections flow
}

func (i *ice) freeze() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.frozen = make(chan struct{})
}

func (i *ice) thaw() {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.frozen)
	i.frozen = nil
}

func (i *ice) wait() {
	i.mu.Lock()
	frozen := i.frozen
	i.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

func (i *ice) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &icyConn{conn, i}, err
}

type icyConn struct {
	net.Conn

	ice *ice
}

func (c *icyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.ice.wait()
	return n, err
}

func (c *icyConn) Write(p []byte) (int, error) {
	c.ice.wait()
	return c.Conn.Write(p)
}

// testStalled freezes the watches, and then lookups, too.
func (s *site) testStalled(t *testing.T) {
	const stale = 3 * time.Second
	watches, lookups := &ice{}, &ice{}
	watching, asking := s.RESTConfig(), s.RESTConfig()
	watching.Dial, asking.Dial = watches.dial, lookups.dial
	index, authorizer := s.authorizer(watching, asking, stale)
	require.Eventually(t, index.Ready, soon, tick)
	client := s.Client().CoreV1().ConfigMaps(space)
	_, err := client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: meta("stalled", alice)}, metav1.CreateOptions{})
	require.NoError(t, err)
	request := ask("get", of("", "configmaps"), named("stalled"))
	decide := func() authz.Verdict { return authorizer.Decide(t.Context(), request) }
	require.Equal(t, authz.NoOpinion, decide().Outcome, decide().Text)

	watches.freeze()
	require.NoError(t, client.Delete(t.Context(), "stalled", metav1.DeleteOptions{}))
	_, err = client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: meta("stalled", bob)}, metav1.CreateOptions{})
	require.NoError(t, err)
	began := time.Now()
	// What is measured is the index alone: how long its questions take afterwards is the API server's affair.
	require.Eventually(t, func() bool {
		_, knowledge := index.Object(key(resource("", "configmaps"), space, "stalled"))
		return knowledge == authz.Unknown
	}, 2*stale, tick)
	assert.Less(t, time.Since(began), stale+time.Second)
	assert.Equal(t, authz.Deny, decide().Outcome)
	assert.Equal(t, authz.ReasonNotYours, decide().Reason, "the API server is asked")
	mine := ask("get", of("", "configmaps"), named("c-a"))
	assert.Equal(t, authz.NoOpinion, authorizer.Decide(t.Context(), mine).Outcome)

	lookups.freeze()
	verdict := authorizer.Decide(t.Context(), mine)
	assert.Equal(t, authz.Deny, verdict.Outcome)
	assert.Equal(t, authz.ReasonUnavailable, verdict.Reason, "it cannot be told, and is denied in time")

	lookups.thaw()
	watches.thaw()
	require.Eventually(t, func() bool { return authorizer.Decide(t.Context(), mine).Outcome == authz.NoOpinion }, soon, tick)
	assert.Equal(t, http.StatusOK, s.request("alice", http.MethodGet, core+"configmaps/c-a", "").code)
}
