// SPDX-License-Identifier: Apache-2.0

package authn_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/cloudveneto/caas/multitenancy/authn"
	"github.com/cloudveneto/caas/multitenancy/keystone/keystonetest"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

func TestSeen(t *testing.T) {
	t.Parallel()
	var seen []tenant.Project
	s := newSite(t, func(c *authn.Config) { c.Seen = func(project tenant.Project) { seen = append(seen, project) } })
	assert.False(t, s.review(t, v1, keystonetest.Fernet()).Authenticated)
	assert.Empty(t, seen, "a token that is refused has no project")
	assert.True(t, s.review(t, v1, s.keystoneToken()).Authenticated)
	assert.Equal(t, []tenant.Project{{ID: "55158de200964f7c8aa5ca486e6cb7ea", Name: "CMS"}}, seen)
}
