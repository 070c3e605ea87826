// SPDX-License-Identifier: Apache-2.0

//go:build integration

package openstack_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/openstack"
)

// TestIntegrationKeystoneAlone runs Keystone without a cloud, and lets the cloud join it later.
func TestIntegrationKeystoneAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: OpenStack's services need a network namespace, and that root")
	}
	if err := openstack.Missing(openstack.Hook); err != nil && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED: %s", err)
	}
	name := fmt.Sprintf("caas-ks%d", os.Getpid())
	require.NoError(t, network.Create(t.Context(), network.Config{
		Name: name, Extra: append(openstack.Gateways(), netip.MustParsePrefix("10.88.0.5/32")),
	}))
	t.Cleanup(func() { assert.NoError(t, network.Delete(context.WithoutCancel(t.Context()), name)) })
	dir := t.TempDir()
	config := openstack.Config{
		Dir: filepath.Join(dir, "site"), NetNS: network.Path(name), Driver: openstack.Identity, KeystoneTLS: certificate(t), EndWithStarter: true,
	}
	site, err := openstack.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, site.Stop(context.WithoutCancel(t.Context()))) })
	status := site.Status(t.Context())
	assert.True(t, status.Healthy(), status)
	assert.Len(t, status.PIDs, 1)
	robot, err := site.Login(t.Context(), openstack.InterLink, openstack.CMS)
	require.NoError(t, err)
	assert.Empty(t, robot.Endpoint("compute"))
	credential, err := site.AddApplicationCredential(t.Context(), openstack.InterLink, openstack.CMS, "test")
	require.NoError(t, err)
	assert.NotEmpty(t, credential.ID)
	assert.NotEmpty(t, credential.Secret)
	testTLS(t, site)
	project, err := site.AddProject(t.Context(), "other", openstack.Quota{}, openstack.InterLink)
	require.NoError(t, err)
	assert.NotEmpty(t, project.ID)

	config.Driver, config.HypervisorSocket = openstack.Hook, filepath.Join(dir, "hypervisor.sock")
	whole, err := openstack.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, whole.Stop(context.WithoutCancel(t.Context()))) })
	robot, err = whole.Login(t.Context(), openstack.InterLink, openstack.CMS)
	require.NoError(t, err)
	assert.NotEmpty(t, robot.Endpoint("compute"))
	cms, err := whole.Project(openstack.CMS)
	require.NoError(t, err)
	assert.Equal(t, robot.ProjectID, cms.ID, "the project is the one that there was")
	status = whole.Status(t.Context())
	assert.True(t, status.Healthy(), status)

	config.Driver = openstack.Identity
	_, err = openstack.Start(t.Context(), config)
	require.ErrorContains(t, err, "driver")
}
