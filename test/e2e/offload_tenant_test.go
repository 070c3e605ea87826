// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/offload"
)

// TestOffloadTenant looks at the sidecar as a user of the platform: what it makes is its own, and the end of its token
// costs no pod.
func TestOffloadTenant(t *testing.T) {
	w := theWorld(t)
	keystone, err := w.lab.Keystone()
	require.NoError(t, err)
	robot, err := keystone.User(offload.User)
	require.NoError(t, err)
	pods, err := w.path.PIDs()
	require.NoError(t, err)

	before := w.create(t, w.shell("before", "sleep 3600"))
	w.awaitPhase(t, before.Name, corev1.PodRunning)
	remote := w.remote(t, before)
	require.Len(t, remote, 1)
	assert.Equal(t, robot.ID, remote[0].Labels["osn.infn.it/userid"])
	assert.Equal(t, "shared", remote[0].Annotations["osn.infn.it/policy"])

	token := w.sidecarToken(t)
	_, err = w.as(t, token).CoreV1().Pods(w.remoteNamespace).List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsForbidden(err), "without a selector the sidecar sees nothing: %v", err)
	mine := metav1.ListOptions{LabelSelector: "osn.infn.it/userid=" + robot.ID}
	_, err = w.as(t, token).CoreV1().Pods(w.remoteNamespace).List(t.Context(), mine)
	require.NoError(t, err)

	require.NoError(t, keystone.Revoke(t.Context(), token))
	w.forgetTokens(t)
	began := time.Now()
	eventually(t.Context(), t, "the API server refuses the revoked token", func() (bool, string) {
		_, err := w.as(t, token).CoreV1().Pods(w.remoteNamespace).List(t.Context(), mine)
		return apierrors.IsUnauthorized(err), describeError(err)
	})
	t.Logf("the API server refuses a revoked token after %s", time.Since(began).Round(time.Millisecond))

	after := w.create(t, w.shell("after", "exit 0"))
	w.awaitPhase(t, after.Name, corev1.PodSucceeded)
	assert.NotEqual(t, token, w.sidecarToken(t))
	still := w.awaitPhase(t, before.Name, corev1.PodRunning)
	assert.Equal(t, before.UID, still.UID)
	w.remove(t, before.Name)
	now, err := w.path.PIDs()
	require.NoError(t, err)
	assert.Equal(t, pods, now, "nothing was started again")
}

// sidecarToken is the token that the sidecar has now.
func (w *world) sidecarToken(t *testing.T) string {
	t.Helper()
	var newest struct {
		Token  string    `json:"token"`
		Issued time.Time `json:"issued"`
	}
	require.NoError(t, filepath.WalkDir(w.path.Dir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found := newest
		if json.Unmarshal(content, &found) == nil && found.Issued.After(newest.Issued) {
			newest = found
		}
		return nil
	}))
	require.NotEmpty(t, newest.Token)
	return newest.Token
}

// as is a client with a token.
func (w *world) as(t *testing.T, token string) *kubernetes.Clientset {
	t.Helper()
	cluster, err := w.lab.Cluster(lab.CaaS)
	require.NoError(t, err)
	config, err := cluster.RESTConfig()
	require.NoError(t, err)
	config = rest.AnonymousClientConfig(config)
	config.BearerToken = token
	config.Proxy = http.ProxyFromEnvironment
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return client
}

// forgetTokens has the webhooks ask Keystone again; the API server itself remembers for half a minute.
func (w *world) forgetTokens(t *testing.T) {
	t.Helper()
	for _, name := range w.lab.TenancyProcesses() {
		if !strings.HasPrefix(name, "kube-mt-authn") {
			continue
		}
		process, err := w.lab.Process(name)
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(process.PID(), syscall.SIGHUP))
	}
}

func describeError(err error) string {
	if err == nil {
		return "it accepts it"
	}
	return err.Error()
}
