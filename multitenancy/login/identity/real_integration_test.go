// SPDX-License-Identifier: Apache-2.0

//go:build integration

package identity_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/openstack/openstacktest"
	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

// startSite runs a real OpenStack, of which only Keystone is used.
func startSite(t *testing.T) *openstack.Site {
	t.Helper()
	openstacktest.Require(t, openstack.Hook)
	return openstacktest.Start(t, openstack.Config{})
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
