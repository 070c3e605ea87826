// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
	"github.com/cloudveneto/caas/internal/programtest"
)

//nolint:gochecknoglobals // built once for all tests
var binary programtest.Binary

func TestMain(m *testing.M) { os.Exit(binary.Run(m)) }

// run runs the program with a file, and returns what it writes.
func run(t *testing.T, content string, flags ...string) (string, error) {
	t.Helper()
	file := httpservertest.Write(t, t.TempDir(), "authn.yaml", []byte(content))
	command := binary.Command(t, append([]string{"--config", file}, flags...)...)
	command.Env = []string{"HOME=" + t.TempDir()}
	out, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

const (
	serving   = "tls: {certFile: a, keyFile: b, clientCAFile: c}\n"
	keystones = "keystone: {authURL: 'https://keystone.example.org:5000/v3'}\n"
	issuers   = "oidc: [{issuer: 'https://iam.example.org/', audiences: [caas]}]\n"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"keystone": serving + keystones,
		"oidc":     serving + issuers,
		"all": serving + issuers + `
listen: "[::1]:1"
audiences: [https://kubernetes.default.svc]
keystone:
  authURL: https://keystone.example.org/v3
  formats: [fernet, jws, uuid]
  roles: [member]
  projects: [p1]
  userDomains: [Default]
  defaultDomain: default
  userNamePrefix: "os:"
  maxSession: 24h
  timeout: 1s
  inFlight: 10
  perSecond: 5
  cache: {positive: 0s, negative: 1s, entries: 10}
`,
	} {
		out, err := run(t, content, "--check")
		require.NoError(t, err, name)
		assert.Equal(t, "the configuration is valid\n", out, name)
	}
}

func TestCheckNamesAllProblems(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		content string
		want    []string
	}{
		"empty":       {"", []string{"tls: certFile", "neither keystone nor oidc"}},
		"unknown key": {serving + keystones + "audience: []\n", []string{`"audience"`}},
		"not local":   {serving + keystones + "listen: 0.0.0.0:1\n", []string{"no loopback address"}},
		"no TLS":      {serving + "keystone: {authURL: 'http://keystone/v3'}\n", []string{"without TLS"}},
		"no CA":       {serving + "keystone: {authURL: 'https://keystone/v3', caFile: /nonexistent}\n", []string{"keystone: caFile"}},
		"all at once": {"keystone: {authURL: x, formats: [pki]}\noidc: [{issuer: y, caFile: /nonexistent}]\n", []string{"tls:", `"pki"`, `authURL "x"`, "oidc[0]"}},
		"issuers":     {serving + "oidc: [{issuer: 'https://a'}, {issuer: 'https://a', audiences: [x], groupsPrefix: '-'}]\n", []string{"audiences", "twice", "must have a prefix"}},
		"password":    {serving + "keystone: {authURL: 'https://keystone/v3', service: {userName: a, project: b, passwordFile: /nonexistent}}\n", []string{"passwordFile"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := run(t, test.content, "--check")
			for _, part := range test.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestInsecureIsSaid(t *testing.T) {
	t.Parallel()
	_, err := run(t, serving+"keystone: {authURL: 'http://keystone/v3'}\n", "--check", "--insecure")
	require.NoError(t, err)
}

func TestPrintAuthenticationConfiguration(t *testing.T) {
	t.Parallel()
	out, err := run(t, serving+issuers, "--print-authentication-config")
	require.NoError(t, err)
	assert.Contains(t, out, "apiVersion: apiserver.config.k8s.io/v1\n")
	assert.Contains(t, out, "url: https://iam.example.org/")
	_, err = run(t, serving+keystones, "--print-authentication-config")
	require.ErrorContains(t, err, "no issuers")
}

// TestExample checks the file that is shipped, with files of its own in place of the site's.
func TestExample(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../deploy/kube-mt-authn/authn.yaml")
	require.NoError(t, err)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(ca, httpservertest.NewCA(t, "keystone").PEM(), 0o600))
	content = bytes.ReplaceAll(content, []byte("/etc/kubernetes/mt/keystone-ca.crt"), []byte(ca))
	_, err = run(t, string(content), "--check")
	require.NoError(t, err)
}
