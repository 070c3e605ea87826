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
	program := filepath.Join(t.TempDir(), "kube-mt-admission")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	return program
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	program := build(t)
	const tls = "tls: {certFile: a, keyFile: b, clientCAFile: c}\n"
	for name, test := range map[string]struct {
		file  string
		args  []string
		want  []string
		fails bool
	}{
		"valid":             {file: tls, want: []string{"the configuration is valid"}},
		"example in deploy": {args: []string{"--config", "../../deploy/kube-mt-admission/admission.yaml"}, want: []string{"the configuration is valid"}},
		"no file":           {args: []string{"--config", "absent.yaml"}, fails: true, want: []string{"absent.yaml"}},
		"unknown key":       {file: tls + "rules: {schedulers: [a], schedulrs: []}\n", fails: true, want: []string{"schedulrs"}},
		"all problems": {
			file: "listen: nowhere\nquarantine: 5ms\nrules: {privateNodes: any, controllers: [\"system:*\"], annotations: [example.org/a], serviceTypes: []}\n", fails: true,
			want: []string{
				`listen: "nowhere"`, "quarantine: 5ms", "tls.clientCAFile: required", `rules.privateNodes: "any"`,
				"rules.controllers: names must be given in full", `rules.annotations: "example.org/a"`, "must not be empty",
			},
		},
		"bad policy": {file: tls + "policyFile: POLICY\n", fails: true, want: []string{"policyFile", "nonsense"}},
		"no CA":      {file: tls, args: []string{"--check=false", "--print-webhook-config"}, fails: true, want: []string{"--ca"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := []string{"--check"}
			if test.file != "" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "POLICY"), []byte("nonsense: true\n"), 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(dir, "admission.yaml"), []byte(test.file), 0o600))
				args = append(args, "--config", filepath.Join(dir, "admission.yaml"))
			}
			command := exec.CommandContext(t.Context(), program, append(args, test.args...)...)
			if test.file != "" {
				command.Dir = dir
			}
			out, err := command.CombinedOutput()
			assert.Equal(t, test.fails, err != nil, string(out))
			for _, want := range test.want {
				assert.Contains(t, string(out), want)
			}
		})
	}
}
