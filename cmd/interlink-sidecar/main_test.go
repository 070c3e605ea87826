// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// build makes the real program.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "interlink-sidecar")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	return program
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	program := build(t)
	for name, test := range map[string]struct {
		file  string
		args  []string
		env   []string
		want  []string
		fails bool
	}{
		"valid": {
			file: "listen: unix:///run/x.sock\nnamespace: {mode: fixed, fixed: cms}\n",
			want: []string{"the configuration is valid"},
		},
		"no file": {args: []string{"--namespace", "cms"}, want: []string{"the configuration is valid"}},
		"environment": {
			env: []string{"SIDECAR_NAMESPACE=cms", "SIDECAR_LISTEN=127.0.0.1:1"}, want: []string{"the configuration is valid"},
		},
		"flag beats environment": {
			args: []string{"--listen", "127.0.0.1:1"}, env: []string{"SIDECAR_NAMESPACE=cms", "SIDECAR_LISTEN=0.0.0.0:1"},
			want: []string{"the configuration is valid"},
		},
		"open to all": {
			args: []string{"--namespace", "cms", "--listen", "0.0.0.0:4000"}, fails: true,
			want: []string{`"0.0.0.0:4000" can be reached by others`},
		},
		"open to all, asked for": {
			args: []string{"--namespace", "cms", "--listen", ":4000", "--insecure-no-auth"}, want: []string{"the configuration is valid"},
		},
		"unknown key": {file: "namespac: {}\n", fails: true, want: []string{"namespac"}},
		"all problems": {
			file:  "qps: 5\ntls: {certFile: x}\ntombstoneLife: 1m\nnamespace: {mode: up}\n",
			fails: true, want: []string{"burst", "keyFile", "tombstoneLife", `namespace.mode: "up"`},
		},
		"example in deploy": {args: []string{"--config", "../../deploy/interlink-sidecar/config.yaml"}, want: []string{"the configuration is valid"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"--check"}, test.args...)
			if test.file != "" {
				path := filepath.Join(t.TempDir(), "sidecar.yaml")
				require.NoError(t, os.WriteFile(path, []byte(test.file), 0o600))
				args = append(args, "--config", path)
			}
			command := exec.CommandContext(t.Context(), program, args...)
			command.Env = append(os.Environ(), test.env...)
			out, err := command.CombinedOutput()
			assert.Equal(t, test.fails, err != nil, string(out))
			for _, want := range test.want {
				assert.Contains(t, string(out), want)
			}
		})
	}
}
