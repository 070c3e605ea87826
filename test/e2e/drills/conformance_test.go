// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

// TestConformance holds the real services to what the fake of the other tests is held to.
func TestConformance(t *testing.T) {
	w := theWorld(t)
	const admin = "admin"
	password, err := w.cloud.Password(admin)
	require.NoError(t, err)
	session, err := w.cloud.Admin(t.Context())
	require.NoError(t, err)
	var images struct{ Images []struct{ ID, Name string } }
	require.NoError(t, session.Do(t.Context(), "GET", "image", "/v2/images?name="+openstack.ImageDebian, nil, &images))
	require.Len(t, images.Images, 1)
	openstacktest.Conformance(t, openstacktest.Site{
		AuthURL: w.cloud.AuthURL(), Region: w.cloud.Region(), AdminUser: admin, AdminPassword: password, AdminProject: admin,
		Image: images.Images[0].ID, HugeVCPUs: 100_000, Subnet: "10.95.248.0/24", Patience: 2 * time.Minute, Transport: w.transport,
	})
}
