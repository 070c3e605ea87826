// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	main "github.com/cloudveneto/caas/cmd/interlink-sidecar"
	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
	"github.com/cloudveneto/caas/sidecar/plugin/watch"
)

const clientsFile = `
kubeconfig: /etc/site
context: theirs
impersonate: {user: site}
namespace: {mode: fixed, fixed: shared}
selector: a=b
policy:
  allowPrivileged: true
  nodeSelector: {pool: common}
share: {cpu: "8"}
maxCreates: 7
clients:
  all-inherited:
  some-own:
    namespace: {mode: same, allowed: [af]}
    policy: {nodeSelector: {pool: af}}
    share: {}
  own-user: {impersonate: {user: af}}
  own-context: {context: ours}
  own-kubeconfig: {kubeconfig: /etc/af, selector: c=d}
  "*": {share: {pods: "1"}}
`

func TestClientsInheritWholeSections(t *testing.T) {
	t.Parallel()
	served, err := main.ServedBy(clientsFile)
	require.NoError(t, err)
	require.Len(t, served, 6)
	for name, one := range served {
		assert.Equal(t, 7, one.MaxCreates, name)
	}
	inherited, own := served["all-inherited"], served["some-own"]
	assert.Equal(t, plugin.NamespaceRule{Mode: plugin.NamespaceFixed, Fixed: "shared"}, inherited.Namespace)
	assert.True(t, inherited.Policy.AllowPrivileged)
	assert.Equal(t, "pool=common", inherited.Capacity.NodeSelector)
	assert.EqualValues(t, 8, inherited.Share.Cpu().Value())
	assert.Equal(t, []string{"/etc/site", "theirs", "site", "a=b"}, []string{inherited.Kubeconfig, inherited.Context, inherited.User, inherited.Selector})

	assert.Equal(t, plugin.NamespaceRule{Mode: plugin.NamespaceSame, Allowed: []string{"af"}}, own.Namespace)
	assert.False(t, own.Policy.AllowPrivileged, "sections are not merged")
	assert.Equal(t, "pool=af", own.Capacity.NodeSelector, "a default follows the client's own policy")
	assert.Empty(t, own.Share)

	for name, want := range map[string][]string{ // an identity of one's own has selectors of its own
		"own-user":       {"/etc/site", "theirs", "af", ""},
		"own-context":    {"/etc/site", "ours", "", ""},
		"own-kubeconfig": {"/etc/af", "", "", "c=d"},
	} {
		one := served[name]
		assert.Equal(t, want, []string{one.Kubeconfig, one.Context, one.User, one.Selector}, name)
	}
	assert.Equal(t, watch.Origins{Only: "own-user"}, served["own-user"].Origins)
	assert.Equal(t, watch.Origins{Except: []string{"all-inherited", "own-context", "own-kubeconfig", "own-user", "some-own"}}, served["*"].Origins)
}

func TestInheritedProblemsAreToldOnce(t *testing.T) {
	t.Parallel()
	_, err := main.ServedBy(strings.Replace(clientsFile, `cpu: "8"`, "cpu: -8", 1))
	require.Error(t, err)
	assert.Equal(t, "share: cpu: -8: must not be negative", err.Error())
	_, err = main.ServedBy(clientsFile + `  "": {}` + "\n")
	assert.ErrorContains(t, err, `requests without one are those of "default"`)
}

// A name that is no label value, such as an OpenID Connect subject, selects its pods by the label that they carry.
func TestNamesThatAreNoLabels(t *testing.T) {
	t.Parallel()
	const subject = "https://idp.example.org/#robot@naples"
	served, err := main.ServedBy("namespace: {mode: same}\nclients: {'" + subject + "': , '*': }\n")
	require.NoError(t, err)
	label := translate.OriginLabel(subject)
	require.NotEqual(t, subject, label)
	assert.Equal(t, watch.Origins{Only: label}, served[subject].Origins)
	assert.Equal(t, watch.Origins{Except: []string{label}}, served["*"].Origins)
}

func TestWithoutClients(t *testing.T) {
	t.Parallel()
	served, err := main.ServedBy("namespace: {mode: same}\n")
	require.NoError(t, err)
	require.Len(t, served, 1)
	assert.Equal(t, watch.Origins{}, served[""].Origins)
}
