// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	alice, bob       = "a11ce000000000000000000000000000", "b0b00000000000000000000000000000"
	project, other   = "c0ffee00000000000000000000000000", "decaf000000000000000000000000000"
	space, elsewhere = "cms", "qst"
)

// world are facts of a test.
type world struct {
	unready bool
	objects map[authz.Key]authz.Object
	// unclear objects are neither known nor unknown.
	unclear map[authz.Key]authz.Knowledge
}

func (w world) Ready() bool { return !w.unready }

func (w world) Object(key authz.Key) (authz.Object, authz.Knowledge) {
	if knowledge, ok := w.unclear[key]; ok {
		return authz.Object{}, knowledge
	}
	if object, ok := w.objects[key]; ok {
		return object, authz.Known
	}
	return authz.Object{}, authz.Unknown
}

func (w world) with(key authz.Key, knowledge authz.Knowledge) world {
	w.unclear = maps.Clone(w.unclear)
	if w.unclear == nil {
		w.unclear = map[authz.Key]authz.Knowledge{}
	}
	w.unclear[key] = knowledge
	return w
}

func resource(group, name string) authz.Resource { return authz.Resource{Group: group, Resource: name} }

func key(r authz.Resource, namespace, name string) authz.Key {
	return authz.Key{Resource: r, Namespace: namespace, Name: name}
}

func owned(by string) authz.Object {
	return authz.Object{Owner: tenant.Owner{UserID: by, VisibleTo: by}}
}

func shared(by string) authz.Object {
	return authz.Object{Owner: tenant.Owner{UserID: by, VisibleTo: tenant.VisibleToProject}}
}

// someWorld has a project of Alice and Bob, another one, and namespaces of the system.
func someWorld() world {
	account := resource("", "serviceaccounts")
	w := world{objects: map[authz.Key]authz.Object{
		key(resource("", "namespaces"), "", space):         {Labels: map[string]string{tenant.LabelProjectID: project}},
		key(resource("", "namespaces"), "", elsewhere):     {Labels: map[string]string{tenant.LabelProjectID: other}},
		key(resource("", "namespaces"), "", "kube-system"): {},
		key(resource("", "namespaces"), "", "default"):     {},
		key(account, space, "robot"):                       {UID: "uid-robot", Owner: tenant.Owner{UserID: alice, VisibleTo: alice}},
		key(account, space, "default"):                     {UID: "uid-default", Owner: tenant.Owner{UserID: alice, VisibleTo: alice}},
		key(account, space, "ownerless"):                   {UID: "uid-ownerless"},
		key(account, elsewhere, "robot"):                   {UID: "uid-other", Owner: tenant.Owner{UserID: bob, VisibleTo: bob}},
		key(resource("", "nodes"), "", "private"):          {Labels: map[string]string{tenant.NodePoolLabel: tenant.PrivatePool(alice)}},
		key(resource("", "nodes"), "", "shared"):           {Labels: map[string]string{tenant.NodePoolLabel: tenant.SharedPool(project)}},
		key(resource("", "nodes"), "", "bobs"):             {Labels: map[string]string{tenant.NodePoolLabel: tenant.PrivatePool(bob)}},
		key(resource("", "nodes"), "", "metal"):            {},
		key(resource("", "persistentvolumes"), "", "mine"): owned(alice),
		key(resource("", "persistentvolumes"), "", "his"):  owned(bob),
	}}
	for _, r := range []authz.Resource{
		resource("", "pods"), resource("", "secrets"), resource("", "configmaps"), resource("", "services"),
		resource("apps", "deployments"), resource("", "serviceaccounts"), resource("", "events"), resource("osnode.infn.it", "openstacknodes"),
		resource("discovery.k8s.io", "endpointslices"),
	} {
		for name, object := range map[string]authz.Object{
			"mine": owned(alice), "his": owned(bob), "nobodys": {}, "shared": shared(bob), "kube-root-ca.crt": {},
		} {
			w.objects[key(r, space, name)] = object
		}
		w.objects[key(r, elsewhere, "mine")] = owned(alice)
	}
	return w
}

func userOf(id, projectID string, roles ...string) tenant.User {
	groups := []string{tenant.GroupAuthenticated, tenant.GroupProjectPrefix + projectID}
	for _, role := range roles {
		groups = append(groups, tenant.GroupProjectPrefix+projectID+":role:"+role)
	}
	return tenant.User{
		Name: id + "@example.org", UID: id, Groups: groups,
		Extra: map[string][]string{
			tenant.ExtraUserID: {id}, tenant.ExtraUserName: {id}, tenant.ExtraProjectID: {projectID}, tenant.ExtraProjectName: {"CMS"}, tenant.ExtraRoles: roles,
		},
	}
}

func accountOf(namespace, name, uid string) tenant.User {
	return tenant.User{
		Name: "system:serviceaccount:" + namespace + ":" + name, UID: uid,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
}

func newRules(tb testing.TB, options authz.Options) *authz.Rules {
	tb.Helper()
	rules, err := authz.NewRules(tenant.DefaultPolicy(), options)
	require.NoError(tb, err)
	return rules
}

func in(label string, values ...string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: label, Operator: metav1.LabelSelectorOpIn, Values: values}
}
