// SPDX-License-Identifier: Apache-2.0

//go:build integration

package keystone_test

import (
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/multitenancy/keystone"
)

func testProjects(r *running) {
	member := r.login(openstack.Zangrand, openstack.CMS)
	v := r.verifier(r.asService)
	for id, want := range map[string]bool{member.ProjectID: true, strings.Repeat("0", 32): false} {
		exists, err := v.Exists(r.t.Context(), id)
		require.NoError(r.t, err)
		assert.Equal(r.t, want, exists, id)
	}
	// Who may not read projects is told the same of all that are not his.
	user := r.verifier(func(c *keystone.Config) {
		c.Service = &keystone.Credential{
			UserName: openstack.Zangrand, Project: openstack.CMS, Password: func() (string, error) { return r.Password(openstack.Zangrand) },
		}
	})
	_, err := user.Exists(r.t.Context(), strings.Repeat("0", 32))
	require.Error(r.t, err)
}
