// SPDX-License-Identifier: Apache-2.0

//go:build integration

package openstack_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/openstack/openstacktest"
)

// TestIntegrationKeystoneAlone runs Keystone without a cloud, and lets the cloud join it later.
func TestIntegrationKeystoneAlone(t *testing.T) {
	openstacktest.Require(t, openstack.Hook)
	dir := t.TempDir()
	config := openstack.Config{
		Dir: filepath.Join(dir, "site"), NetNS: openstacktest.LAN(t), Driver: openstack.Identity, KeystoneTLS: certificate(t), EndWithStarter: true,
	}
	site := openstacktest.Start(t, config)
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
	whole := openstacktest.Start(t, config)
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
