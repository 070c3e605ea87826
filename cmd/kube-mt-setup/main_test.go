// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/admission"
	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const written = "# Written by kube-mt-setup. Change the site's own file and run it again.\n"

// machine is one of a control plane, with a directory in place of /etc/kubernetes.
type machine struct {
	t                   *testing.T
	programs, dir, file string
}

// newMachine builds the programs and writes a cluster's CA and the site's file.
func newMachine(t *testing.T, further string) machine {
	t.Helper()
	m := machine{t: t, programs: t.TempDir(), dir: t.TempDir()}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", m.programs+"/", ".", "../kube-mt-authn", "../kube-mt-authz", "../kube-mt-admission")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(20 * 365 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	encoded, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	m.write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})))
	m.write("ca.key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})))
	m.file = m.write("site.yaml", fmt.Sprintf(`
directory: %[1]s/mt
clusterCA: {certFile: %[1]s/ca.crt, keyFile: %[1]s/ca.key}
keystone: {authURL: https://keystone.example.org:5000/v3}
%s`, m.dir, further))
	return m
}

func (m machine) write(name, content string) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	require.NoError(m.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func (m machine) read(name string) string {
	m.t.Helper()
	content, err := os.ReadFile(filepath.Join(m.dir, "mt", name))
	require.NoError(m.t, err)
	return string(content)
}

func (m machine) run(program string, args ...string) (string, error) {
	m.t.Helper()
	out, err := exec.CommandContext(m.t.Context(), filepath.Join(m.programs, program), args...).CombinedOutput()
	return string(out), err
}

func (m machine) setup(args ...string) (string, error) {
	m.t.Helper()
	return m.run("kube-mt-setup", append([]string{"--config", m.file}, args...)...)
}

// TestSetup goes the way of a site, and holds what is written against the programs that it is for.
func TestSetup(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "trusted: ['system:serviceaccount:monitoring:operator', prometheus]\nadminGroups: [platform]\n")
	out, err := m.setup("--check")
	require.Error(t, err)
	assert.Contains(t, out, "authn.yaml: missing")
	out, err = m.setup()
	require.NoError(t, err, out)
	assert.Contains(t, out, "wrote "+m.dir+"/mt/authorization.yaml")
	out, err = m.setup("--check")
	require.NoError(t, err, out)
	assert.Contains(t, out, "is complete")
	out, err = m.setup()
	require.NoError(t, err)
	assert.NotContains(t, out, "wrote")
	out, err = m.setup("--print-args")
	require.NoError(t, err)
	assert.Equal(t, m.read("kube-apiserver.args"), out)

	for _, webhook := range []string{"authn", "authz", "admission"} {
		out, err := m.run("kube-mt-"+webhook, "--config", filepath.Join(m.dir, "mt", webhook+".yaml"), "--check")
		assert.NoError(t, err, out)
	}
	policy, err := tenant.ParsePolicy([]byte(m.read("policy.yaml")))
	require.NoError(t, err)
	rules, err := authz.NewRules(policy, authz.Options{})
	require.NoError(t, err)
	authorization, err := rules.AuthorizationConfiguration(filepath.Join(m.dir, "mt", "authz.kubeconfig"))
	require.NoError(t, err)
	assert.Equal(t, written+string(authorization), m.read("authorization.yaml"), "as kube-mt-authz prints it")
	webhooks, err := admission.WebhookConfigurations("https://127.0.0.1:9445", []byte(m.read("ca.crt")))
	require.NoError(t, err)
	assert.Equal(t, string(webhooks), withoutComments(m.read("manifests/4-webhooks.yaml")), "as kube-mt-admission prints them")
}

func withoutComments(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "replicas: 0.5\n")
	out, err := m.setup()
	require.Error(t, err)
	assert.Contains(t, out, "replicas")
	_, err = os.Stat(filepath.Join(m.dir, "mt"))
	require.ErrorIs(t, err, os.ErrNotExist)
	out, err = m.run("kube-mt-setup", "--config", filepath.Join(m.dir, "none"))
	require.Error(t, err)
	assert.Contains(t, out, "none")
}
