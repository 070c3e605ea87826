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
)

const (
	deployed = "../../deploy/kube-mt-authz"
	tlsPart  = "tls: {certFile: a, keyFile: b, clientCAFile: c}\n"
)

// build makes the real program.
func build(tb testing.TB) string {
	tb.Helper()
	program := filepath.Join(tb.TempDir(), "kube-mt-authz")
	out, err := exec.CommandContext(tb.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(tb, err, string(out))
	return program
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	program := build(t)
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	require.NoError(t, os.WriteFile(policy, []byte("resources: [{resources: [secrets], class: shareable}]\n"), 0o600))
	for name, test := range map[string]struct {
		file  string
		args  []string
		want  []string
		fails bool
	}{
		"valid":             {file: tlsPart, want: []string{"the configuration is valid"}},
		"example in deploy": {args: []string{"--config", deployed + "/authz.yaml"}, want: []string{"the configuration is valid"}},
		"unknown key":       {file: tlsPart + "listMod: owner\n", fails: true, want: []string{"listMod"}},
		"no file":           {args: []string{"--config", "/none"}, fails: true, want: []string{"/none"}},
		"bad policy":        {file: tlsPart + "policyFile: " + policy + "\n", fails: true, want: []string{"policyFile", "secrets"}},
		"all problems": {
			file:  "listen: x\nlistMode: all\nmanagers: root\ntrusted: {serviceAccounts: [a], users: ['']}\nlookups: {burst: -1}\ntls: {certFile: a}\n",
			fails: true,
			want: []string{
				`listen: "x"`, `listMode: "all"`, `managers: "root"`, `serviceAccounts: "a"`, `users: ""`, "lookups", "tls.keyFile", "tls.clientCAFile",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"--check"}, test.args...)
			if test.file != "" {
				path := filepath.Join(t.TempDir(), "authz.yaml")
				require.NoError(t, os.WriteFile(path, []byte(test.file), 0o600))
				args = append(args, "--config", path)
			}
			out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
			assert.Equal(t, test.fails, err != nil, string(out))
			for _, want := range test.want {
				assert.Contains(t, string(out), want)
			}
		})
	}
	t.Run("printed configuration is the one in deploy", func(t *testing.T) {
		t.Parallel()
		out, err := exec.CommandContext(t.Context(), program, "--config", deployed+"/authz.yaml", "--print-authorization-config").Output()
		require.NoError(t, err)
		content, err := os.ReadFile(deployed + "/authorization.yaml")
		require.NoError(t, err)
		_, rules, found := strings.Cut(string(content), "--print-authorization-config\n")
		require.True(t, found)
		assert.Equal(t, string(out), rules)
	})
}
