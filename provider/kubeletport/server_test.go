// SPDX-License-Identifier: Apache-2.0

package kubeletport_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/provider/kubeletport"
)

// reviewing returns a client of an API server that knows the token "good" of
// alice and "other" of bob, and lets alice and the API server use node n.
func reviewing(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/apis/authentication.k8s.io/v1/tokenreviews":
			var review authenticationv1.TokenReview
			assert.NoError(t, json.NewDecoder(r.Body).Decode(&review))
			name, ok := map[string]string{"good": "alice", "other": "bob"}[review.Spec.Token]
			review.Status.Authenticated, review.Status.User.Username = ok, name
			assert.NoError(t, json.NewEncoder(w).Encode(review))
		case "/apis/authorization.k8s.io/v1/subjectaccessreviews":
			var review authorizationv1.SubjectAccessReview
			assert.NoError(t, json.NewDecoder(r.Body).Decode(&review))
			asked, user := review.Spec.ResourceAttributes, review.Spec.User
			review.Status.Allowed = (user == "alice" || user == "apiserver") && asked.Resource == "nodes" && asked.Name == "n"
			assert.NoError(t, json.NewEncoder(w).Encode(review))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	return client
}

func start(t *testing.T, edit func(*kubeletport.Config)) (url string, stop func()) {
	t.Helper()
	pods := func(context.Context) ([]*corev1.Pod, error) {
		return []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}, nil
	}
	cfg := kubeletport.Config{
		Address: "127.0.0.1:0", NodeName: "n", NodeAddress: "127.0.0.1", Client: reviewing(t),
		Certificate: kubeletport.Certificate{SelfSigned: true},
		Routes: api.PodHandlerConfig{
			GetPods: pods, GetPodsFromKubernetes: pods,
			GetContainerLogs: func(ctx context.Context, _, _, _ string, options api.ContainerLogOpts) (io.ReadCloser, error) {
				reader, writer := io.Pipe()
				go func() {
					_, _ = io.WriteString(writer, "first\n")
					if options.Follow {
						<-ctx.Done()
					}
					_ = writer.Close()
				}()
				return reader, nil
			},
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	server, err := kubeletport.New(t.Context(), cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(stop)
	return "https://" + server.Addr().String(), stop
}

func client(t *testing.T, certificates ...tls.Certificate) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func get(t *testing.T, c *http.Client, method, url, token string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	require.NoError(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := c.Do(request)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body)
}

func TestAccessAndRoutes(t *testing.T) {
	t.Parallel()
	url, _ := start(t, nil)
	cases := map[string]struct {
		method, path, token string
		code                int
		body                string
	}{
		"nobody":       {http.MethodGet, "/pods", "", 401, "Unauthorized"},
		"bad token":    {http.MethodGet, "/pods", "bad", 401, "Unauthorized"},
		"not allowed":  {http.MethodGet, "/pods", "other", 403, "Forbidden"},
		"pods":         {http.MethodGet, "/pods", "good", 200, `"name":"a"`},
		"running pods": {http.MethodGet, "/runningpods/", "good", 200, `"name":"a"`},
		"logs":         {http.MethodGet, "/containerLogs/user/a/main", "good", 200, "first\n"},
		"bad option":   {http.MethodGet, "/containerLogs/user/a/main?tailLines=x", "good", 400, "tailLines"},
		"exec":         {http.MethodPost, "/exec/user/a/main", "good", 501, "this virtual node does not offer kubectl exec"},
		"attach":       {http.MethodPost, "/attach/user/a/main", "good", 501, "this virtual node does not offer kubectl attach"},
		"port-forward": {http.MethodPost, "/portForward/user/a", "good", 501, "this virtual node does not offer kubectl port-forward"},
		"exec, nobody": {http.MethodPost, "/exec/user/a/main", "", 401, "Unauthorized"},
		"unknown":      {http.MethodGet, "/other", "good", 404, "not found"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, body := get(t, client(t), c.method, url+c.path, c.token)
			assert.Equal(t, c.code, code)
			assert.Contains(t, body, c.body)
		})
	}
}

func TestShutdownEndsFollowedLogs(t *testing.T) {
	t.Parallel()
	url, stop := start(t, nil)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/containerLogs/user/a/main?follow=true", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer good")
	answer, err := client(t).Do(request)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	line := make([]byte, 6)
	_, err = io.ReadFull(answer.Body, line)
	require.NoError(t, err)
	assert.Equal(t, "first\n", string(line))
	begun := time.Now()
	stop()
	assert.Less(t, time.Since(begun), 5*time.Second)
}

// pair makes a certificate signed by parent, or a self-signed authority.
func pair(t *testing.T, name string, parent *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	signer, signerKey := template, any(key)
	if parent != nil {
		signer, err = x509.ParseCertificate(parent.Certificate[0])
		require.NoError(t, err)
		signerKey = parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, key.Public(), signerKey)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func write(t *testing.T, dir string, certificate tls.Certificate) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	der, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), 0o600))
	return cert, key
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	authority := pair(t, "authority", nil)
	pool := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate[0]})
	url, _ := start(t, func(cfg *kubeletport.Config) { cfg.ClientCAs = pool })
	code, _ := get(t, client(t, pair(t, "apiserver", &authority)), http.MethodGet, url+"/pods", "")
	assert.Equal(t, 200, code)
	stranger := pair(t, "stranger", nil)
	code, _ = get(t, client(t, pair(t, "apiserver", &stranger)), http.MethodGet, url+"/pods", "")
	assert.Equal(t, 401, code)
}

func TestServingCertificateIsReloaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := write(t, dir, pair(t, "one", nil))
	url, _ := start(t, func(cfg *kubeletport.Config) {
		cfg.Certificate = kubeletport.Certificate{CertFile: cert, KeyFile: key}
	})
	serving := func() string {
		dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "https://"))
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		secure, ok := conn.(*tls.Conn)
		require.True(t, ok)
		return secure.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	assert.Equal(t, "one", serving())
	write(t, dir, pair(t, "two", nil))
	require.NoError(t, os.Chtimes(cert, time.Time{}, time.Now().Add(time.Minute)))
	assert.Equal(t, "two", serving())
	require.NoError(t, os.WriteFile(key, []byte("garbage"), 0o600))
	require.NoError(t, os.Chtimes(cert, time.Time{}, time.Now().Add(2*time.Minute)))
	assert.Equal(t, "two", serving(), "what does not fit leaves the old certificate in use")
}
