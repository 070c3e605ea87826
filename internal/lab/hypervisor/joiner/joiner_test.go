// SPDX-License-Identifier: Apache-2.0

package joiner_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/hypervisor"
	"github.com/cloudveneto/caas/internal/lab/hypervisor/joiner"
)

// TestUserDataThatIsNoNode boots servers from whose user data no kubelet could join.
func TestUserDataThatIsNoNode(t *testing.T) {
	t.Parallel()
	const environment = "- {path: /etc/kubernetes/kubelet.env, content: 'KUBELET_EXTRA_ARGS=--hostname-override=one'}\n"
	kubeconfig := func(user string) string {
		return "- path: /etc/kubernetes/bootstrap-kubelet.conf\n  content: |\n    {apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}], " +
			"clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', certificate-authority: /etc/ca}}], users: [{name: u, user: " + user + "}]}\n"
	}
	const ca = "- {path: /etc/ca, content: x}\n"
	const files = "#cloud-config\nwrite_files:\n"
	for name, tc := range map[string]struct{ data, problem string }{
		"none":                  {problem: "kubelet.env"},
		"broken":                {data: "#cloud-config\n: [\n", problem: "cloud-config 1"},
		"no name":               {data: files + "- {path: /etc/kubernetes/kubelet.env, content: A=b}\n", problem: "--hostname-override"},
		"no kubeconfig":         {data: files + environment, problem: "bootstrap-kubelet.conf"},
		"no CA":                 {data: files + environment + kubeconfig("{token: a.b}"), problem: "/etc/ca"},
		"no token":              {data: files + environment + ca + kubeconfig("{username: a, password: b}"), problem: "no token"},
		"a program for a token": {data: files + environment + ca + kubeconfig("{exec: {apiVersion: client.authentication.k8s.io/v1, command: id, interactiveMode: Never}}"), problem: "by a token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := joiner.New(joiner.Config{})
			t.Cleanup(j.Close)
			server := hypervisor.Server{UUID: "u", UserData: []byte(tc.data), NICs: []hypervisor.NIC{{IPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}}}}
			require.NoError(t, j.Spawn(t.Context(), server))
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				status, _ := j.Status("u")
				assert.Contains(c, status.Errors["boot"], tc.problem)
				assert.Equal(c, joiner.Booting, status.State)
			}, 5*time.Second, 5*time.Millisecond)
			require.NoError(t, j.PowerOff(t.Context(), "u"))
			status, ok := j.Status("u")
			assert.True(t, ok)
			assert.Equal(t, joiner.Off, status.State)
		})
	}
}

func TestOptionsAndClosing(t *testing.T) {
	t.Parallel()
	j := joiner.New(joiner.Config{Options: func(hypervisor.Server) joiner.Options { return joiner.Options{Never: true} }})
	require.NoError(t, j.Spawn(t.Context(), hypervisor.Server{UUID: "u"}))
	require.NoError(t, j.Spawn(t.Context(), hypervisor.Server{UUID: "u"}), "one that exists is left alone")
	require.NoError(t, j.PowerOn(t.Context(), "u"), "one that is on, too")
	require.NoError(t, j.Reboot(t.Context(), "u"))
	status, _ := j.Status("u")
	assert.Empty(t, status.Errors, "it does not even look at its user data")
	j.Close()
	status, _ = j.Status("u")
	assert.Equal(t, joiner.Off, status.State)
	require.ErrorContains(t, j.Spawn(t.Context(), hypervisor.Server{UUID: "v"}), "closed")
	require.ErrorContains(t, j.PowerOn(t.Context(), "u"), "closed")
	require.NoError(t, j.Destroy(t.Context(), "u"))
	require.NoError(t, j.Destroy(t.Context(), "u"))
	_, ok := j.Status("u")
	assert.False(t, ok)
}
