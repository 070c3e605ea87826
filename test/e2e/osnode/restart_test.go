// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package osnode_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// TestOsnodeRestart kills the controller while it makes a pool's two nodes, and again while it deletes them.
func TestOsnodeRestart(t *testing.T) {
	const name = "restart"
	w := theWorld(t)
	u := w.user(t, openstack.Zangrand, openstack.QST)
	w.clean(t, emptyPool(poolNamespace, name))
	t.Cleanup(func() { assert.NoError(t, w.site.Start(context.WithoutCancel(t.Context()))) }) // before cleaning
	crash := func(when string) {
		t.Logf("the controller is killed %s", when)
		require.NoError(t, w.site.Kill())
		require.NoError(t, w.site.Start(t.Context()))
	}
	await := func(what string, enough func(members []osnodev1.OpenStackNode) bool) (members []osnodev1.OpenStackNode) {
		eventually(t, what, func(ctx context.Context) (bool, string) {
			var err error
			members, err = w.members(ctx, poolNamespace, name)
			return err == nil && enough(members), describe(members, err)
		})
		return members
	}

	u.apply(t, &osnodev1.OpenStackNodePool{
		TypeMeta:   metav1.TypeMeta{APIVersion: osnodev1.GroupVersion().String(), Kind: "OpenStackNodePool"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: osnodev1.OpenStackNodePoolSpec{
			Replicas: new(int32(2)), Flavors: []string{"cloudveneto.medium"},
			Template: osnodev1.NodeTemplate{KeyPair: "my-key", Policy: osnodev1.PolicyPrivate},
		},
	})
	session, err := w.cloud.Login(t.Context(), openstack.Zangrand, openstack.QST)
	require.NoError(t, err)
	eventually(t, "Nova has taken a request", func(ctx context.Context) (bool, string) {
		var list struct{ Servers []struct{ Name string } }
		err := session.Do(ctx, http.MethodGet, "compute", "/servers", nil, &list)
		return len(list.Servers) > 0, fmt.Sprint(err)
	})
	crash("when Nova has taken the first request")
	await("both have machines", func(members []osnodev1.OpenStackNode) bool {
		return len(members) == 2 && !slices.ContainsFunc(members, func(osn osnodev1.OpenStackNode) bool { return osn.Status.Server == nil })
	})
	crash("when both machines are being made")
	members := await("both are Running", func(members []osnodev1.OpenStackNode) bool {
		return len(members) == 2 && !slices.ContainsFunc(members, func(osn osnodev1.OpenStackNode) bool { return osn.Status.Phase != osnodev1.PhaseRunning })
	})
	var names, nodes, uids []string
	for i := range members {
		names = append(names, members[i].Name)
		nodes, uids = append(nodes, members[i].Status.NodeID), append(uids, string(members[i].UID))
	}

	u.kubectl(t, "delete", "osnp", name)
	await("one is being deleted", func(members []osnodev1.OpenStackNode) bool {
		return len(members) < 2 || slices.ContainsFunc(members, func(osn osnodev1.OpenStackNode) bool { return osn.DeletionTimestamp != nil })
	})
	crash("when the deletion has begun")
	await("a machine is being deleted", func(members []osnodev1.OpenStackNode) bool {
		return len(members) < 2 || slices.ContainsFunc(members, func(osn osnodev1.OpenStackNode) bool {
			return osn.Status.Server == nil || osn.Status.Description == "The virtual machine is being deleted"
		})
	})
	crash("when a machine is being deleted")
	await("both are gone", func(members []osnodev1.OpenStackNode) bool { return len(members) == 0 })
	w.assertNothingLeft(t, openstack.QST, nodes, uids)
	assert.ElementsMatch(t, names, w.everMade(t, openstack.QST, names), "each had one machine, ever")
}

// everMade are the names of all servers that a project has or had, as far as they are among names: Nova remembers the
// servers that are deleted, but not their metadata. The nodes of another pool of the same name have other names.
func (w *world) everMade(t *testing.T, project string, names []string) []string {
	t.Helper()
	admin, err := w.cloud.Admin(t.Context())
	require.NoError(t, err)
	at, err := w.cloud.Project(project)
	require.NoError(t, err)
	var made []string
	for _, deleted := range []bool{false, true} {
		var list struct{ Servers []struct{ Name string } }
		path := fmt.Sprintf("/servers?all_tenants=true&project_id=%s&deleted=%t", at.ID, deleted)
		require.NoError(t, admin.Do(t.Context(), http.MethodGet, "compute", path, nil, &list))
		for _, server := range list.Servers {
			if slices.Contains(names, server.Name) {
				made = append(made, server.Name)
			}
		}
	}
	return made
}
