// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

// originToken looks at the token of the usual place, and at one that a volume asks for.
func originToken(t *testing.T, r *room) {
	const usual = "/var/run/secrets/kubernetes.io/serviceaccount"
	pod := r.shell("token", strings.Join([]string{
		"cat " + usual + "/token; echo", "cat " + usual + "/namespace; echo", "cat /own/deep/token; echo",
		"echo $KUBERNETES_SERVICE_HOST", "echo $KUBERNETES_SERVICE_PORT",
		"echo x | nc -w 10 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT >/dev/null && echo reached || echo not reached",
		"cat " + usual + "/ca.crt", "sleep 3600",
	}, "; "))
	expiry := int64(3607)
	pod.Spec.Volumes = []corev1.Volume{{Name: "own", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "storage.example", ExpirationSeconds: &expiry, Path: "deep/token"}}},
	}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "own", MountPath: "/own"}}
	created := r.create(t, pod)
	r.awaitPhase(t, "token", corev1.PodRunning)
	var lines []string
	eventually(t.Context(), t, "the pod has told all", func() (bool, string) {
		text := r.logs(t, "token", "main")
		lines = strings.Split(text, "\n")
		return strings.Contains(text, "-----END CERTIFICATE-----"), text
	})
	require.Greater(t, len(lines), 7, "%v", lines)
	token, namespace, own, host, port, reached := lines[0], lines[1], lines[2], lines[3], lines[4], lines[5]
	assert.Equal(t, r.namespace, namespace, "the namespace is the origin's")
	assert.Equal(t, "system:serviceaccount:"+r.namespace+":default", labtest.Claims(t, token).Subject)
	assert.Equal(t, []string{"storage.example"}, labtest.Claims(t, own).Audience)
	assert.InDelta(t, 3607, labtest.Claims(t, own).Expires-labtest.Claims(t, own).Issued, 1)
	assert.Equal(t, string(created.UID), labtest.Claims(t, own).Kubernetes.Pod.UID)
	assert.Equal(t, "reached", reached, "the origin's API server, from the pod")
	r.asksOrigin(t, host+":"+port, token, strings.Join(lines[6:], "\n"))

	far := r.awaitFar(t, created)
	require.NotNil(t, far.Spec.AutomountServiceAccountToken)
	assert.False(t, *far.Spec.AutomountServiceAccountToken)
	configMaps, secrets := r.copies(t, created)
	assert.NotEmpty(t, secrets)
	for _, one := range configMaps {
		assert.NotContains(t, one.String(), "eyJ", "a token is in a Secret, not in a ConfigMap")
	}
	for _, volume := range far.Spec.Volumes {
		assert.Nil(t, volume.Projected, "no token of the target")
	}

	require.True(t, r.accepted(t, token))
	r.delete(t, "token", 1)
	r.awaitGone(t, created)
	eventually(t.Context(), t, "the token has died with its pod", func() (bool, string) { return !r.accepted(t, token), "" })
}

// asksOrigin speaks to the origin's API server as a program in the pod would.
func (r *room) asksOrigin(t *testing.T, address, token, authority string) {
	t.Helper()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(authority)))
	transport := &http.Transport{DialContext: network.Dialer(r.lab.NetNS()), TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/api", nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err, "the certificate matches")
	assert.NoError(t, answer.Body.Close())
	assert.Equal(t, http.StatusOK, answer.StatusCode)
}

// accepted tells whether the origin takes the token for one of a ServiceAccount.
func (r *room) accepted(t *testing.T, token string) bool {
	t.Helper()
	review, err := r.af.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return review.Status.Authenticated
}
