// SPDX-License-Identifier: Apache-2.0

package dns_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/dns"
	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
)

func TestCorefile(t *testing.T) {
	t.Parallel()
	config := dns.Config{
		Name: "dns", Binary: "/coredns", Dir: "/dir", Address: netip.MustParseAddr("10.88.0.53"), Kubeconfig: "/kubeconfig",
		Alias: "caas.lab", Peers: map[string]netip.Addr{"af.lab": netip.MustParseAddr("10.88.0.54")},
	}
	corefile, err := dns.Corefile(config)
	require.NoError(t, err)
	//nolint:dupword // any class, any type
	assert.Equal(t, `cluster.local caas.lab in-addr.arpa ip6.arpa {
    bind 10.88.0.53
    errors
    ready 10.88.0.53:8181
    loadbalance
    kubernetes cluster.local caas.lab in-addr.arpa ip6.arpa {
        kubeconfig /kubeconfig
        pods insecure
        ttl 5
    }
}
af.lab {
    bind 10.88.0.53
    errors
    forward . 10.88.0.54:53
}
. {
    bind 10.88.0.53
    errors
    template ANY ANY {
        rcode NXDOMAIN
    }
}
`, corefile)

	_, err = dns.Corefile(dns.Config{Name: "dns"})
	for _, field := range []string{"binary", "dir", "kubeconfig", "address"} {
		require.ErrorContains(t, err, field+" is required")
	}
}

// TestNameServersOfTwoClusters runs two name servers on loopback addresses against a
// real API server, with no more rights than Allow gives, and asks them.
func TestNameServersOfTwoClusters(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: port 53 needs root")
	}
	t.Parallel()
	binary, err := kube.BuildCoreDNS(t.Context(), gobuild.Config{})
	require.NoError(t, err)
	cluster := kubetest.Start(t, kubetest.Options{})
	for range 2 {
		require.NoError(t, dns.Allow(t.Context(), cluster.Client()))
	}
	_, err = cluster.Client().CoreV1().Services(metav1.NamespaceDefault).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	web, err := cluster.Client().CoreV1().Services(metav1.NamespaceDefault).Get(t.Context(), "web", metav1.GetOptions{})
	require.NoError(t, err)

	first, second := netip.MustParseAddr("127.88.0.53"), netip.MustParseAddr("127.88.0.54")
	config := dns.Config{
		Name: "dns", Binary: binary, Dir: t.TempDir(), Address: first, Kubeconfig: cluster.Kubeconfig(dns.User),
		Alias: "caas.lab", Peers: map[string]netip.Addr{"af.lab": second},
	}
	t.Cleanup(func() {
		for _, name := range []string{"dns", "peer"} {
			if text, err := os.ReadFile(filepath.Join(config.Dir, name+".log")); err == nil && t.Failed() {
				t.Logf("%s:\n%s", name, text)
			}
		}
	})
	process, err := dns.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, process.Kill()) })
	again, err := dns.Start(t.Context(), config)
	require.NoError(t, err)
	assert.Equal(t, process.PID(), again.PID(), "one that runs is left alone")

	peer := config
	peer.Name, peer.Address, peer.Alias, peer.Peers = "peer", second, "other.lab", nil
	other, err := dns.Start(t.Context(), peer)
	require.NoError(t, err)
	peer.Alias = "af.lab"
	replaced, err := dns.Start(t.Context(), peer)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, replaced.Kill()) })
	assert.NotEqual(t, other.PID(), replaced.PID(), "with another configuration it is replaced")
	assert.False(t, other.Alive())

	resolver := resolver(first)
	for _, name := range []string{"web.default.svc.cluster.local.", "web.default.svc.caas.lab.", "web.default.svc.af.lab."} {
		addresses, err := resolver.LookupHost(t.Context(), name)
		require.NoError(t, err, name)
		assert.Equal(t, []string{web.Spec.ClusterIP}, addresses, name)
	}
	names, err := resolver.LookupAddr(t.Context(), web.Spec.ClusterIP)
	require.NoError(t, err)
	assert.Contains(t, names, "web.default.svc.cluster.local.")

	for _, name := range []string{"nosuch.default.svc.cluster.local.", "www.example.org."} {
		_, err := resolver.LookupHost(t.Context(), name)
		var missing *net.DNSError
		require.ErrorAs(t, err, &missing, name)
		assert.True(t, missing.IsNotFound, fmt.Sprint(err))
	}
}

func TestStartSaysWhereTheLogIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := dns.Start(t.Context(), dns.Config{
		Name: "dns", Binary: "/bin/false", Dir: dir, Address: netip.MustParseAddr("127.88.0.55"), Kubeconfig: "/nonexistent",
	})
	require.ErrorContains(t, err, filepath.Join(dir, "dns.log"))
}

// resolver asks the name server at address.
func resolver(address netip.Addr) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, netip.AddrPortFrom(address, 53).String())
	}}
}
