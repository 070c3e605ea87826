// SPDX-License-Identifier: Apache-2.0

// Package openstacktest runs the real services of OpenStack for a test, in a network namespace of its own, and ends them
// with it. It needs root and Debian's packages; where one is missing, tests are skipped, loudly.
//
//	openstacktest.Require(t, openstack.Identity)
//	site := openstacktest.Start(t, openstack.Config{Driver: openstack.Identity})
//	session, err := site.Login(t.Context(), openstack.Lisa, openstack.QST)
package openstacktest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/openstack"
)

// shownLog is how much of the end of each service's log a failed test shows.
const shownLog = 6000

// Require skips where OpenStack cannot run. In CI it fails where packages are missing: there they are what is to be tried.
func Require(t *testing.T, driver openstack.Driver) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: OpenStack's services need a network namespace, and that root")
	}
	err := openstack.Missing(driver)
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED: %s", err)
	}
	require.NoError(t, err)
}

// LAN makes a network namespace with the addresses that a site needs, and returns its path.
func LAN(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("caas-os%d-%06d", os.Getpid(), rand.IntN(1e6)) //nolint:gosec // a name, not a secret
	require.NoError(t, network.Create(t.Context(), network.Config{
		Name: name, Extra: append(openstack.Gateways(), netip.MustParsePrefix("10.88.0.5/32")),
	}))
	t.Cleanup(func() { assert.NoError(t, network.Delete(context.WithoutCancel(t.Context()), name)) })
	return network.Path(name)
}

// Start starts a site, in a LAN and a directory of its own unless config names others. It ends with the test, or with the
// test's process.
func Start(t *testing.T, config openstack.Config) *openstack.Site {
	t.Helper()
	dir := t.TempDir()
	if config.Dir == "" {
		config.Dir = filepath.Join(dir, "site")
	}
	if config.NetNS == "" {
		config.NetNS = LAN(t)
	}
	if hooked := config.Driver == "" || config.Driver == openstack.Hook; hooked && config.HypervisorSocket == "" {
		config.HypervisorSocket = filepath.Join(dir, "hypervisor.sock")
	}
	config.EndWithStarter = true
	site, err := openstack.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, site.Stop(context.WithoutCancel(t.Context())))
		if t.Failed() {
			for name, file := range site.LogFiles() {
				text, _ := os.ReadFile(file) //nolint:gosec // a log of the site's
				t.Logf("%s:\n%s", name, text[max(0, len(text)-shownLog):])
			}
		}
	})
	return site
}
