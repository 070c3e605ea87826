// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
	"github.com/cloudveneto/caas/internal/programtest"
)

const (
	deployed = "../../deploy/kube-mt-proxy"
	parts    = "tls: {certFile: a, keyFile: b}\nserver: {url: 'https://127.0.0.1:6443'}\n"
)

//nolint:gochecknoglobals // built once for all tests
var binary programtest.Binary

func TestMain(m *testing.M) { os.Exit(binary.Run(m)) }

func TestConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy := httpservertest.Write(t, dir, "policy.yaml", []byte("resources: [{resources: [secrets], class: shareable}]\n"))
	authority := httpservertest.Write(t, dir, "ca.crt", httpservertest.NewCA(t, "ca").PEM())
	example, err := os.ReadFile(deployed + "/proxy.yaml")
	require.NoError(t, err)
	binary.Check(t, map[string]programtest.Configuration{
		"valid":             {File: parts, Want: []string{"the configuration is valid"}},
		"no operations":     {File: parts + "opsListen: none\n", Want: []string{"the configuration is valid"}},
		"flags":             {File: parts + "listen: x\n", Args: []string{"--listen=:1", "--ops-listen=:2"}, Want: []string{"valid"}},
		"example in deploy": {File: strings.ReplaceAll(string(example), "/etc/kubernetes/pki/ca.crt", authority), Want: []string{"the configuration is valid"}},
		"unknown key":       {File: parts + "listMod: owner\n", Fails: true, Want: []string{"listMod"}},
		"no file":           {Args: []string{"--config", "/none"}, Fails: true, Want: []string{"/none"}},
		"bad policy":        {File: parts + "policyFile: " + policy + "\n", Fails: true, Want: []string{"policyFile", "secrets"}},
		"no authority":      {File: "tls: {certFile: a, keyFile: b}\nserver: {url: 'https://a', caFile: " + policy + "}\n", Fails: true, Want: []string{"holds no certificate"}},
		"no TLS to server":  {File: "tls: {certFile: a, keyFile: b}\nserver: {url: 'http://a'}\n", Fails: true, Want: []string{"server.url"}},
		"all problems": {
			File: "listen: x\nopsListen: z\nlistMode: all\ncallers: {entries: -1}\ntls: {certFile: a}\nserver: {url: 'https://a/b', caFile: /none}\n", Fails: true,
			Want: []string{`listen: "x"`, `opsListen: "z"`, `listMode: "all"`, "callers", "tls: certFile and keyFile", "server.url", "server.caFile"},
		},
	})
}
