// SPDX-License-Identifier: Apache-2.0

//go:build integration

package authz_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func (s *site) testBeingDeleted(t *testing.T) {
	client := s.Client().CoreV1().ConfigMaps(space)
	for suffix, owner := range map[string]string{"a": alice, "b": bob} {
		object := meta("going-"+suffix, owner)
		object.Finalizers = []string{"example.org/wait"}
		_, err := client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: object}, metav1.CreateOptions{})
		require.NoError(t, err)
		require.NoError(t, client.Delete(t.Context(), object.Name, metav1.DeleteOptions{}))
	}
	patch := `{"metadata":{"annotations":{"x":"y"}}}`
	denied(t, s.request("alice", http.MethodPatch, core+"configmaps/going-b", patch, "Content-Type", merge))
	assert.Equal(t, http.StatusOK, s.request("alice", http.MethodPatch, core+"configmaps/going-a", patch, "Content-Type", merge).code)
}

func (s *site) testServiceAccounts(t *testing.T) {
	token := func(account string) string {
		made, err := s.Client().CoreV1().ServiceAccounts(space).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		require.NoError(t, err)
		return made.Status.Token
	}
	robot := token("sa-a")
	assert.Equal(t, http.StatusOK, s.request(robot, http.MethodGet, core+"secrets/s-a", "").code)
	assert.Equal(t, http.StatusOK, s.request(robot, http.MethodGet, core+"secrets?labelSelector="+mine, "").code)
	denied(t, s.request(robot, http.MethodGet, core+"secrets/s-b", ""))
	denied(t, s.request(robot, http.MethodGet, core+"secrets", ""))
	for _, nobody := range []string{"default", "sa-system"} {
		denied(t, s.request(token(nobody), http.MethodGet, core+"secrets/s-a", ""))
		denied(t, s.request(token(nobody), http.MethodPost, core+"configmaps", `{"metadata":{"generateName":"x"}}`))
	}
	// The account's name becomes Bob's; Alice's token is not good for what is his.
	account := s.Client().CoreV1().ServiceAccounts(space)
	_, err := account.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: meta("reused", alice)}, metav1.CreateOptions{})
	require.NoError(t, err)
	reused := token("reused")
	require.NoError(t, account.Delete(t.Context(), "reused", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	_, err = account.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: meta("reused", bob)}, metav1.CreateOptions{})
	require.NoError(t, err)
	assert.NotEqual(t, http.StatusOK, s.request(reused, http.MethodGet, core+"secrets/s-b", "").code)
}

// testReuse polls a name that becomes Bob's. What the previous owner may see for some milliseconds, while the index
// learns of it, admission prevents by keeping names back; nobody else may ever.
func (s *site) testReuse(t *testing.T) {
	client := s.Client().CoreV1().ConfigMaps(space)
	for range 20 {
		found := make(chan bool, 1)
		go func() {
			seen := false
			for until := time.Now().Add(150 * time.Millisecond); time.Now().Before(until); {
				seen = seen || s.request("alice", http.MethodGet, core+"configmaps/predictable", "").code == http.StatusOK
			}
			found <- seen
		}()
		time.Sleep(50 * time.Millisecond)
		_, err := client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: meta("predictable", bob)}, metav1.CreateOptions{})
		require.NoError(t, err)
		assert.False(t, <-found)
		require.NoError(t, client.Delete(t.Context(), "predictable", metav1.DeleteOptions{}))
	}
	_, err := client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: meta("inherited", alice)}, metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, s.request("alice", http.MethodGet, core+"configmaps/inherited", "").code)
	require.NoError(t, client.Delete(t.Context(), "inherited", metav1.DeleteOptions{}))
	_, err = client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: meta("inherited", bob)}, metav1.CreateOptions{})
	require.NoError(t, err)
	began := time.Now()
	require.Eventually(t, func() bool {
		return s.request("alice", http.MethodGet, core+"configmaps/inherited", "").code == http.StatusForbidden
	}, soon, time.Millisecond)
	t.Logf("the previous owner was shut out within %s", time.Since(began))
	assert.Equal(t, http.StatusOK, s.request("bob", http.MethodGet, core+"configmaps/inherited", "").code)
}

func (s *site) testWebhookFails(t *testing.T) {
	node := s.Kubeconfig("system:node:n1", "system:nodes")
	check := func(t *testing.T) {
		t.Helper()
		began := time.Now()
		got := s.request("alice", http.MethodGet, core+"secrets/s-a", "")
		assert.Contains(t, []int{http.StatusForbidden, http.StatusInternalServerError}, got.code, got.body)
		assert.NotContains(t, got.body, alice)
		assert.Less(t, time.Since(began), 30*time.Second)
		_, err := s.Client().CoreV1().Secrets(space).Get(t.Context(), "s-a", metav1.GetOptions{})
		require.NoError(t, err, "administrators go on")
		_, err = clientOf(t, node).CoreV1().Nodes().Patch(t.Context(), "n1", types.MergePatchType, []byte(`{"metadata":{"annotations":{"x":"y"}}}`), metav1.PatchOptions{})
		require.NoError(t, err, "nodes go on")
	}
	_, err := s.Client().CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	working := *s.handler.now.Load()
	for name, handler := range map[string]http.HandlerFunc{
		"slow":    func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"garbage": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>allowed</html>")) },
		"allow and deny": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","status":{"allowed":true,"denied":true}}`))
		},
		"not found": http.NotFound,
	} {
		t.Run(name, func(t *testing.T) {
			s.handler.set(handler)
			check(t)
		})
	}
	s.handler.set(working)
	assert.Equal(t, http.StatusOK, s.request("alice", http.MethodGet, core+"secrets/s-a", "").code)
	t.Run("down", func(t *testing.T) {
		s.stop()
		check(t)
	})
	t.Run("back", func(t *testing.T) {
		s.pki.serve(t, s.address, s.handler)
		assert.Equal(t, http.StatusOK, s.request("alice", http.MethodGet, core+"secrets/s-a", "").code)
	})
}
