// SPDX-License-Identifier: Apache-2.0

//go:build integration

package identity_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

// startSite runs a real OpenStack, of which only Keystone is used.
func startSite(t *testing.T) *openstack.Site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: OpenStack's services need a network namespace, and that root")
	}
	err := openstack.Missing(openstack.Hook)
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED: %s", err)
	}
	require.NoError(t, err)
	name := fmt.Sprintf("caas-id%d", os.Getpid())
	require.NoError(t, network.Create(t.Context(), network.Config{
		Name: name, Extra: append(openstack.Gateways(), netip.MustParsePrefix("10.88.0.5/32")),
	}))
	t.Cleanup(func() { assert.NoError(t, network.Delete(context.WithoutCancel(t.Context()), name)) })
	dir := t.TempDir()
	site, err := openstack.Start(t.Context(), openstack.Config{
		Dir: filepath.Join(dir, "site"), NetNS: network.Path(name), HypervisorSocket: filepath.Join(dir, "hypervisor.sock"), EndWithStarter: true,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, site.Stop(context.WithoutCancel(t.Context())))
		if t.Failed() {
			text, _ := os.ReadFile(site.LogFiles()["keystone"])
			t.Logf("keystone:\n%s", text[max(0, len(text)-6000):])
		}
	})
	return site
}

func TestRealKeystone(t *testing.T) {
	t.Parallel()
	site := startSite(t)
	password, err := site.Password(openstack.Zangrand)
	require.NoError(t, err)
	trustee, err := site.User(openstack.ServiceUser)
	require.NoError(t, err)
	client, err := identity.New(identity.Config{AuthURL: site.AuthURL(), Dial: site.Transport().DialContext, Timeout: 30 * time.Second})
	require.NoError(t, err)
	conform(t, client, world{user: openstack.Zangrand, password: identity.Secret(password), projects: []string{openstack.CMS, openstack.QST}, trustee: trustee.ID})
}
