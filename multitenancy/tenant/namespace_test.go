// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

func TestNamespaceOf(t *testing.T) {
	t.Parallel()
	labels := map[string]string{tenant.LabelProjectID: projectID}
	assert.Equal(t, tenant.Namespace{Name: "cms", ProjectID: projectID, Tenant: true}, tenant.NamespaceOf("cms", labels))
	assert.Equal(t, tenant.Namespace{Name: "cms"}, tenant.NamespaceOf("cms", nil))
	for _, system := range []string{"kube-system", "kube-public", "kube-node-lease", "default", "caas-system"} {
		assert.False(t, tenant.NamespaceOf(system, labels).Tenant, system)
	}
}

func TestNamespaceName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 80)
	for name, test := range map[string]struct {
		project string
		// taken are namespaces with their projects.
		taken map[string]string
		want  string
	}{
		"small letters":           {"CMS", nil, "cms"},
		"own already":             {"CMS", map[string]string{"cms": projectID}, "cms"},
		"another project's":       {"CMS", map[string]string{"cms": "other"}, "cms-55158de2"},
		"no tenant's":             {"monitoring", map[string]string{"monitoring": ""}, "monitoring-55158de2"},
		"own under the long name": {"CMS", map[string]string{"cms-55158de2": projectID}, "cms-55158de2"},
		"both taken":              {"CMS", map[string]string{"cms": "other", "cms-55158de2": "other"}, "cms-55158de200964f7c"},
		"kube-system":             {"kube-system", nil, "kube-system-55158de2"},
		"default":                 {"Default", nil, "default-55158de2"},
		"Kubernetes' prefix":      {"kube-flannel", nil, "kube-flannel-55158de2"},
		"spaces":                  {"Quantum Tea_2", nil, "quantum-tea-2"},
		"no letters":              {"日本", nil, "project-55158de2"},
		"long":                    {long, nil, long[:63]},
		"long and taken":          {long, map[string]string{long[:63]: "other"}, long[:54] + "-55158de2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			taken := func(name string) (string, bool) {
				id, exists := test.taken[name]
				return id, exists
			}
			assert.Equal(t, test.want, tenant.NamespaceName(tenant.Project{ID: projectID, Name: test.project}, taken))
		})
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	mark := tenant.Mark{UserID: userID, UserName: "zangrand@infn.it", Project: tenant.Project{ID: projectID, Name: "QST"}}
	labels := mark.Labels()
	assert.Equal(t, map[string]string{
		"osn.infn.it/userid": userID, "osn.infn.it/username": "zangrand-at-infn.it",
		"osn.infn.it/projectid": projectID, "osn.infn.it/projectname": "QST", "osn.infn.it/visible-to": userID,
	}, labels)
	own := tenant.OwnerOf(labels)
	assert.True(t, own.Is(userID))
	assert.False(t, own.Is("other"))
	assert.False(t, own.Shared())
	assert.True(t, own.ReadableBy(userID, tenant.Owned))
	assert.False(t, own.ReadableBy("other", tenant.Shareable))

	mark.VisibleTo = tenant.VisibleToProject
	shared := tenant.OwnerOf(mark.Labels())
	assert.True(t, shared.ReadableBy("other", tenant.Shareable))
	assert.False(t, shared.ReadableBy("other", tenant.Owned))
	assert.False(t, shared.ReadableBy("", tenant.Shareable))

	nobody := tenant.OwnerOf(map[string]string{tenant.LabelVisibleTo: tenant.VisibleToProject})
	assert.True(t, nobody.System())
	assert.False(t, nobody.Shared())
	assert.False(t, nobody.Is(""))
	assert.False(t, nobody.ReadableBy("other", tenant.Shareable))
}
