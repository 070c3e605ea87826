// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kube_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

func build(t *testing.T) string {
	t.Helper()
	bin, err := kube.Build(t.Context(), gobuild.Config{Progress: func(step string, elapsed time.Duration) {
		if elapsed.Truncate(time.Second)%(20*time.Second) == 0 {
			t.Log(step, elapsed)
		}
	}})
	require.NoError(t, err)
	return bin
}

func client(t *testing.T, plane *kube.ControlPlane) *kubernetes.Clientset {
	t.Helper()
	config, err := plane.RESTConfig()
	require.NoError(t, err)
	c, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return c
}

// TestIntegrationImpatience starts a controller-manager that gives up on the API server the first time, as the real one does on
// a busy machine.
func TestIntegrationImpatience(t *testing.T) {
	programs, bin := build(t), t.TempDir()
	entries, err := os.ReadDir(programs)
	require.NoError(t, err)
	for _, entry := range entries {
		require.NoError(t, os.Symlink(filepath.Join(programs, entry.Name()), filepath.Join(bin, entry.Name())))
	}
	const name = "kube-controller-manager"
	require.NoError(t, os.Remove(filepath.Join(bin, name)))
	script := "#!/bin/sh\nif mkdir '" + filepath.Join(bin, "tried") + "'; then echo failed to wait for apiserver being healthy; exit 1; fi\n" +
		"exec '" + filepath.Join(programs, name) + "' \"$@\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700))
	plane, err := kube.Start(t.Context(), kube.Config{
		Name: "impatience", Dir: filepath.Join(t.TempDir(), "plane"), BinDir: bin, ControllerManager: true, EndWithStarter: true,
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, plane.Kill()) })
	assert.DirExists(t, filepath.Join(bin, "tried"))
	assert.True(t, plane.Running())
}

// TestIntegrationLife starts a control plane, finds it again, restarts it with its data, lets a node bootstrap itself up to its
// serving certificate, and stops it.
func TestIntegrationLife(t *testing.T) {
	cfg := kube.Config{
		Name: "life", Dir: filepath.Join(t.TempDir(), "life"), BinDir: build(t), ControllerManager: true, EndWithStarter: true,
	}
	plane, err := kube.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, plane.Kill()) })
	require.True(t, plane.Running())
	version, err := client(t, plane).Discovery().ServerVersion()
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(version.GitVersion, "v1."), version.GitVersion)
	assert.NotContains(t, version.GitVersion, "$Format")

	t.Run("survives a restart", func(t *testing.T) { restart(t, plane, cfg) })

	t.Run("a node gets its certificates", func(t *testing.T) { bootstrapNode(t, plane) })

	t.Run("a known node's serving certificate is approved", func(t *testing.T) { approveServing(t, plane) })

	require.NoError(t, plane.Kill())
	left, err := proc.All(filepath.Join(cfg.Dir, "run"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// clientTemplate is what kubelet n1 asks for before its serving certificate.
func clientTemplate() *x509.CertificateRequest {
	return &x509.CertificateRequest{Subject: pkix.Name{CommonName: nodeUser, Organization: []string{nodeGroup}}}
}

func awaitCertificate(t *testing.T, admin *kubernetes.Clientset, name string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		request, err := admin.CertificatesV1().CertificateSigningRequests().Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(c, err)
		assert.NotEmpty(c, request.Status.Certificate)
	}, 30*time.Second, 50*time.Millisecond)
}

func TestIntegrationDeadComponentIsShown(t *testing.T) {
	cfg := kube.Config{
		Dir: filepath.Join(t.TempDir(), "broken"), BinDir: build(t), EndWithStarter: true,
		APIServerArgs: []string{"--no-such-flag"},
	}
	_, err := kube.Start(t.Context(), cfg)
	require.ErrorContains(t, err, "kube-apiserver ended")
	require.ErrorContains(t, err, "unknown flag: --no-such-flag", "the end of its log is shown")
	left, err := proc.All(filepath.Join(cfg.Dir, "run"))
	require.NoError(t, err)
	assert.Empty(t, left, "etcd is not left running")
}

func restart(t *testing.T, plane *kube.ControlPlane, cfg kube.Config) {
	t.Helper()
	_, err := client(t, plane).CoreV1().ConfigMaps("default").Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, plane.Stop(t.Context(), 10*time.Second))
	assert.False(t, plane.Running())
	again, err := kube.Start(t.Context(), cfg)
	require.NoError(t, err)
	assert.Equal(t, plane.Server(), again.Server(), "the ports are the same")
	_, err = client(t, again).CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{})
	require.NoError(t, err)
	found, err := kube.Open(cfg.Dir, nil)
	require.NoError(t, err)
	assert.True(t, found.Running())
	assert.Equal(t, again.Server(), found.Server())
}

func bootstrapNode(t *testing.T, plane *kube.ControlPlane) {
	t.Helper()
	token, err := kube.NewToken()
	require.NoError(t, err)
	admin := client(t, plane)
	require.NoError(t, kube.AllowBootstrap(t.Context(), admin, token))
	require.NoError(t, kube.AllowBootstrap(t.Context(), admin, token), "twice")
	require.Error(t, kube.AllowBootstrap(t.Context(), admin, "no-token"))

	config, err := plane.RESTConfig()
	require.NoError(t, err)
	bootstrap := rest.AnonymousClientConfig(config)
	bootstrap.BearerToken = token
	joining, err := kubernetes.NewForConfig(bootstrap)
	require.NoError(t, err)
	request := servingRequest(t, servingTemplate())
	request.Name, request.Spec.SignerName = "client", certificatesv1.KubeAPIServerClientKubeletSignerName
	request.Spec.Request = servingRequest(t, clientTemplate()).Spec.Request
	request.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	_, err = joining.CertificatesV1().CertificateSigningRequests().Create(t.Context(), request, metav1.CreateOptions{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	approver := &kube.Approver{
		Client: admin, Bootstrapper: kube.BootstrapUser(token), Logger: slog.New(slog.DiscardHandler),
		Addresses: func(node string) []string { return map[string][]string{"n1": {"10.0.0.1"}}[node] },
	}
	done := make(chan error, 1)
	go func() { done <- approver.Run(ctx) }()
	awaitCertificate(t, admin, "client")
	cancel()
	require.NoError(t, <-done)
}

func approveServing(t *testing.T, plane *kube.ControlPlane) {
	t.Helper()
	admin := client(t, plane)
	ctx, cancel := context.WithCancel(t.Context())
	approver := &kube.Approver{
		Client: admin, Logger: slog.New(slog.DiscardHandler),
		Addresses: func(node string) []string { return map[string][]string{"n1": {"10.0.0.1"}}[node] },
	}
	done := make(chan error, 1)
	go func() { done <- approver.Run(ctx) }()
	ca, err := plane.CA()
	require.NoError(t, err)
	for _, node := range []string{"n2", "n1"} {
		pair, err := ca.Client("system:node:"+node, nodeGroup)
		require.NoError(t, err)
		config, err := plane.RESTConfig()
		require.NoError(t, err)
		config.CertData, config.KeyData = pair.Cert, pair.Key
		kubelet, err := kubernetes.NewForConfig(config)
		require.NoError(t, err)
		template := servingTemplate()
		template.Subject.CommonName, template.DNSNames = "system:node:"+node, []string{node}
		request := servingRequest(t, template)
		request.Name = "serving-" + node
		_, err = kubelet.CertificatesV1().CertificateSigningRequests().Create(t.Context(), request, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	awaitCertificate(t, admin, "serving-n1")
	stranger, err := admin.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "serving-n2", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Empty(t, stranger.Status.Conditions, "a node that is not known is left undecided")
	cancel()
	require.NoError(t, <-done)
}
