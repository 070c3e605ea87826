// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/programtest"
)

const (
	deployed = "../../deploy/kube-mt-authz"
	tlsPart  = "tls: {certFile: a, keyFile: b, clientCAFile: c}\n"
)

//nolint:gochecknoglobals // built once for all tests
var binary programtest.Binary

func TestMain(m *testing.M) { os.Exit(binary.Run(m)) }

func TestConfiguration(t *testing.T) {
	t.Parallel()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	require.NoError(t, os.WriteFile(policy, []byte("resources: [{resources: [secrets], class: shareable}]\n"), 0o600))
	binary.Check(t, map[string]programtest.Configuration{
		"valid":             {File: tlsPart, Want: []string{"the configuration is valid"}},
		"example in deploy": {Args: []string{"--config", deployed + "/authz.yaml"}, Want: []string{"the configuration is valid"}},
		"unknown key":       {File: tlsPart + "listMod: owner\n", Fails: true, Want: []string{"listMod"}},
		"no file":           {Args: []string{"--config", "/none"}, Fails: true, Want: []string{"/none"}},
		"bad policy":        {File: tlsPart + "policyFile: " + policy + "\n", Fails: true, Want: []string{"policyFile", "secrets"}},
		"all problems": {
			File:  "listen: x\nlistMode: all\nmanagers: root\ntrusted: {serviceAccounts: [a], users: ['']}\nlookups: {burst: -1}\ntls: {certFile: a}\n",
			Fails: true,
			Want: []string{
				`listen: "x"`, `listMode: "all"`, `managers: "root"`, `serviceAccounts: "a"`, `users: ""`, "lookups", "tls.keyFile", "tls.clientCAFile",
			},
		},
	})

	t.Run("printed configuration is the one in deploy", func(t *testing.T) {
		t.Parallel()
		out, err := binary.Command(t, "--config", deployed+"/authz.yaml", "--print-authorization-config").Output()
		require.NoError(t, err)
		content, err := os.ReadFile(deployed + "/authorization.yaml")
		require.NoError(t, err)
		_, rules, found := strings.Cut(string(content), "--print-authorization-config\n")
		require.True(t, found)
		assert.Equal(t, string(out), rules)
	})
}
