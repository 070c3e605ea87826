// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/programtest"
)

//nolint:gochecknoglobals // built once for all tests
var binary programtest.Binary

func TestMain(m *testing.M) { os.Exit(binary.Run(m)) }

func TestConfiguration(t *testing.T) {
	t.Parallel()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	require.NoError(t, os.WriteFile(policy, []byte("nonsense: true\n"), 0o600))
	const tls = "tls: {certFile: a, keyFile: b, clientCAFile: c}\n"
	binary.Check(t, map[string]programtest.Configuration{
		"valid":             {File: tls, Want: []string{"the configuration is valid"}},
		"example in deploy": {Args: []string{"--config", "../../deploy/kube-mt-admission/admission.yaml"}, Want: []string{"the configuration is valid"}},
		"no file":           {Args: []string{"--config", "absent.yaml"}, Fails: true, Want: []string{"absent.yaml"}},
		"unknown key":       {File: tls + "rules: {schedulers: [a], schedulrs: []}\n", Fails: true, Want: []string{"schedulrs"}},
		"all problems": {
			File: "listen: nowhere\nquarantine: 5ms\nrules: {privateNodes: any, controllers: [\"system:*\"], annotations: [example.org/a], serviceTypes: []}\n", Fails: true,
			Want: []string{
				`listen: "nowhere"`, "quarantine: 5ms", "tls.clientCAFile: required", `rules.privateNodes: "any"`,
				"rules.controllers: names must be given in full", `rules.annotations: "example.org/a"`, "must not be empty",
			},
		},
		"bad policy": {File: tls + "policyFile: " + policy + "\n", Fails: true, Want: []string{"policyFile", "nonsense"}},
		"no CA":      {File: tls, Args: []string{"--check=false", "--print-webhook-config"}, Fails: true, Want: []string{"--ca"}},
	})
}
