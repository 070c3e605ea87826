// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
)

const (
	deployed = "../../deploy/kube-mt-proxy"
	parts    = "tls: {certFile: a, keyFile: b}\nserver: {url: 'https://127.0.0.1:6443'}\n"
)

// build makes the real program.
func build(tb testing.TB) string {
	tb.Helper()
	program := filepath.Join(tb.TempDir(), "kube-mt-proxy")
	out, err := exec.CommandContext(tb.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(tb, err, string(out))
	return program
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	program := build(t)
	dir := t.TempDir()
	policy := httpservertest.Write(t, dir, "policy.yaml", []byte("resources: [{resources: [secrets], class: shareable}]\n"))
	authority := httpservertest.Write(t, dir, "ca.crt", httpservertest.NewCA(t, "ca").PEM())
	example, err := os.ReadFile(deployed + "/proxy.yaml")
	require.NoError(t, err)
	for name, test := range map[string]struct {
		file  string
		args  []string
		want  []string
		fails bool
	}{
		"valid":             {file: parts, want: []string{"the configuration is valid"}},
		"no operations":     {file: parts + "opsListen: none\n", want: []string{"the configuration is valid"}},
		"flags":             {file: parts + "listen: x\n", args: []string{"--listen=:1", "--ops-listen=:2"}, want: []string{"valid"}},
		"example in deploy": {file: strings.ReplaceAll(string(example), "/etc/kubernetes/pki/ca.crt", authority), want: []string{"the configuration is valid"}},
		"unknown key":       {file: parts + "listMod: owner\n", fails: true, want: []string{"listMod"}},
		"no file":           {args: []string{"--config", "/none"}, fails: true, want: []string{"/none"}},
		"bad policy":        {file: parts + "policyFile: " + policy + "\n", fails: true, want: []string{"policyFile", "secrets"}},
		"no authority":      {file: "tls: {certFile: a, keyFile: b}\nserver: {url: 'https://a', caFile: " + policy + "}\n", fails: true, want: []string{"holds no certificate"}},
		"no TLS to server":  {file: "tls: {certFile: a, keyFile: b}\nserver: {url: 'http://a'}\n", fails: true, want: []string{"server.url"}},
		"all problems": {
			file: "listen: x\nopsListen: z\nlistMode: all\ncallers: {entries: -1}\ntls: {certFile: a}\nserver: {url: 'https://a/b', caFile: /none}\n", fails: true,
			want: []string{`listen: "x"`, `opsListen: "z"`, `listMode: "all"`, "callers", "tls: certFile and keyFile", "server.url", "server.caFile"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"--check"}, test.args...)
			if test.file != "" {
				args = append(args, "--config", httpservertest.Write(t, t.TempDir(), "proxy.yaml", []byte(test.file)))
			}
			out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
			assert.Equal(t, test.fails, err != nil, string(out))
			for _, want := range test.want {
				assert.Contains(t, string(out), want)
			}
		})
	}
}
