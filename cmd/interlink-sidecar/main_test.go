// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"testing"

	"github.com/cloudveneto/caas/internal/programtest"
)

//nolint:gochecknoglobals // built once for all tests
var binary programtest.Binary

func TestMain(m *testing.M) { os.Exit(binary.Run(m)) }

func TestConfiguration(t *testing.T) {
	t.Parallel()
	binary.Check(t, map[string]programtest.Configuration{
		"valid": {
			File: "listen: unix:///run/x.sock\nnamespace: {mode: fixed, fixed: cms}\n",
			Want: []string{"the configuration is valid"},
		},
		"no file": {Args: []string{"--namespace", "cms"}, Want: []string{"the configuration is valid"}},
		"environment": {
			Env: []string{"SIDECAR_NAMESPACE=cms", "SIDECAR_LISTEN=127.0.0.1:1"}, Want: []string{"the configuration is valid"},
		},
		"flag beats environment": {
			Args: []string{"--listen", "127.0.0.1:1"}, Env: []string{"SIDECAR_NAMESPACE=cms", "SIDECAR_LISTEN=0.0.0.0:1"},
			Want: []string{"the configuration is valid"},
		},
		"open to all": {
			Args: []string{"--namespace", "cms", "--listen", "0.0.0.0:4000"}, Fails: true,
			Want: []string{`"0.0.0.0:4000" can be reached by others`},
		},
		"open to all, asked for": {
			Args: []string{"--namespace", "cms", "--listen", ":4000", "--insecure-no-auth"}, Want: []string{"the configuration is valid"},
		},
		"unknown key": {File: "namespac: {}\n", Fails: true, Want: []string{"namespac"}},
		"all problems": {
			File:  "qps: 5\ntls: {certFile: x}\ntombstoneLife: 1m\nnamespace: {mode: up}\n",
			Fails: true, Want: []string{"burst", "keyFile", "tombstoneLife", `namespace.mode: "up"`},
		},
		"profiles": {Args: []string{"--namespace", "cms", "--ops-listen", "127.0.0.1:1", "--pprof"}, Want: []string{"the configuration is valid"}},
		"profiles served nowhere": {
			Args: []string{"--namespace", "cms"}, Env: []string{"SIDECAR_PPROF=true"}, Fails: true, Want: []string{"pprof: profiles are served with the metrics: set opsListen"},
		},
		"clients": {
			File: "clients:\n  af: {namespace: {mode: fixed, fixed: af}, impersonate: {user: af}, share: {cpu: 4}}\n  '*': {namespace: {mode: same}}\n",
			Want: []string{"the configuration is valid"},
		},
		"clients' problems": {
			File:  "requestTimeout: -1s\nclients:\n  af: {namespace: {mode: fixed}, impersonate: {groups: [x]}, policy: {volumes: [{}]}}\n  biology: {share: {cpu: -1}}\n",
			Fails: true, Want: []string{
				"clients[af].namespace.fixed", "clients[af].impersonate.user", "clients[af].policy.volumes[0].match.kind",
				`clients[biology].namespace.mode: "": want fixed`, "clients[biology].share: cpu: -1", "\nrequestTimeout",
			},
		},
		"unknown key of a client": {File: "clients:\n  af: {namespac: {}}\n", Fails: true, Want: []string{"namespac"}},
		"no client":               {File: "namespace: {mode: same}\nclients: {}\n", Fails: true, Want: []string{"clients: empty"}},
		"clients in deploy":       {Args: []string{"--config", "../../deploy/interlink-sidecar/clients.yaml"}, Want: []string{"the configuration is valid"}},
		"example in deploy":       {Args: []string{"--config", "../../deploy/interlink-sidecar/config.yaml"}, Want: []string{"the configuration is valid"}},
		"all problems of the policy": {
			File: `namespace: {mode: fixed, fixed: cms}
maxCreates: many
polices: {}
policy:
  nodeSelector: [a]
  volumes:
  - match: {kind: nfs, sever: nas}
    target: {emptyDir: {}, hostPath: {path: /}}
  - match: {kind: persistentVolumeClaim}
    claim: {size: large, retention: Pod}
  - match: {kind: persistentVolumeClaim}
    claim: {size: 1Gi, retention: Delete, grace: soon}
  images: [{match: "docker.io/*", replace: "https://mirror"}]
  security:
  - {field: runAsUser, values: [0], action: refuse}
  - {field: sysctl, action: refuse}
`,
			Fails: true, Want: []string{
				"maxCreates: many: is a JSON string, want int", `unknown field "polices"`, "policy.nodeSelector: is a JSON array, want map[string]string",
				`unknown field "policy.volumes[0].match.sever"`, "policy.volumes[0].target: [hostPath emptyDir] given",
				"policy.volumes[1].claim.size: large: quantities must match", `policy.volumes[1].claim.retention: "Pod"`,
				"policy.volumes[2].claim.grace: soon: time: invalid duration", "policy.images[0].replace",
				"policy.security[0].values[0]: 0: is a JSON number, want string", `policy.security[1].field: "sysctl"`,
			},
		},
		"no YAML":            {File: "namespace: {\n", Fails: true, Want: []string{"line 1"}},
		"twice the same key": {File: "listen: a\nlisten: b\n", Fails: true, Want: []string{"listen"}},
	})
}
