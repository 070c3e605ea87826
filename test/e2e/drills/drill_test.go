// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	// patience is longer than the longest request may take and settle together: so long a controller that crashed in the
	// middle of one waits before it asks again.
	patience = 4 * time.Minute
	interval = 100 * time.Millisecond

	flavor  = "lab.tiny"
	keyPair = "my-key"
	owner   = openstack.Zangrand
)

// tenant is an OpenStack project with its namespace, and its owner at a terminal.
type tenant struct {
	*world
	*door

	id, namespace string
	project       openstack.Project
	trust         string
	user          client.WithWatch

	mu   sync.Mutex
	made map[string]*osnodev1.OpenStackNode // by name, as it was when it was made
}

// newTenant makes the project, the platform's user in it, and the namespace.
func newTenant(ctx context.Context, w *world, id string) (*tenant, error) {
	d := &tenant{world: w, door: w.doors[id], id: id, namespace: namespaceName(id), made: map[string]*osnodev1.OpenStackNode{}}
	var err error
	if d.project, err = w.addProject(ctx, projectName(id)); err != nil {
		return nil, err
	}
	if _, err = w.cloud.AddUser(ctx, serviceUser(id), d.project.Name); err != nil {
		return nil, err
	}
	if d.trust, err = d.authorize(ctx); err != nil {
		return nil, err
	}
	who, err := w.cloud.User(owner)
	if err != nil {
		return nil, err
	}
	config := rest.CopyConfig(w.config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: who.Name, UID: who.ID, Groups: []string{"system:authenticated", "osn:project:" + d.project.ID},
		Extra: map[string][]string{
			osnodev1.LabelUserID: {who.ID}, osnodev1.LabelUserName: {who.Name},
			osnodev1.LabelProjectID: {d.project.ID}, osnodev1.LabelProjectName: {d.project.Name},
		},
	}
	if d.user, err = newClient(config); err != nil {
		return nil, err
	}
	if err := w.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: d.namespace, Labels: map[string]string{osnodev1.LabelProjectID: d.project.ID, osnodev1.LabelProjectName: d.project.Name},
	}}); err != nil {
		return nil, err
	}
	if err := w.admin.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "osnode-tenant"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "osnode-tenant"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "osn:project:" + d.project.ID}},
	}); err != nil {
		return nil, err
	}
	return d, d.awaitRights(ctx)
}

// addProject makes a project. On SQLite, Neutron now and then fails to make the first things of one while it makes others.
func (w *world) addProject(ctx context.Context, name string) (project openstack.Project, err error) {
	const attempts = 5
	w.adding.Lock()
	defer w.adding.Unlock()
	for range attempts {
		project, err = w.cloud.AddProject(ctx, name, openstack.Quota{Cores: 20, MemoryMiB: 20 << 10, Instances: 10}, owner)
		if openstack.StatusOf(err) != http.StatusInternalServerError || !pause(ctx, 4*interval) {
			break
		}
	}
	return project, err
}

// awaitRights waits until the API server has taken notice of the binding, and of the policy that writes owners.
func (d *tenant) awaitRights(ctx context.Context) error {
	for {
		try := d.wish("try")
		err := d.user.Create(ctx, try, client.DryRunAll)
		if err == nil && try.Labels[osnodev1.LabelProjectID] == d.project.ID {
			return nil
		}
		if !pause(ctx, interval) {
			return fmt.Errorf("namespace %s cannot be used: %w", d.namespace, err)
		}
	}
}

// authorize lets this tenant's platform act for the owner, as a login with kubectl-openstack does.
func (d *tenant) authorize(ctx context.Context) (trust string, err error) {
	session, err := d.cloud.Login(ctx, owner, d.project.Name)
	if err != nil {
		return "", err
	}
	trustee, err := d.cloud.User(serviceUser(d.id))
	if err != nil {
		return "", err
	}
	var made struct{ Trust struct{ ID string } }
	err = session.Do(ctx, http.MethodPost, "identity", "/OS-TRUST/trusts", object{"trust": object{
		"trustor_user_id": session.UserID, "trustee_user_id": trustee.ID, "project_id": session.ProjectID,
		"impersonation": true, "allow_redelegation": false, "roles": []object{{"name": openstack.RoleMember}},
	}}, &made)
	return made.Trust.ID, err
}

// pause waits a moment, and tells whether ctx is still alive then.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// wish is an OpenStackNode as the owner would write it.
func (d *tenant) wish(name string) *osnodev1.OpenStackNode {
	return &osnodev1.OpenStackNode{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: name},
		Spec:       osnodev1.OpenStackNodeSpec{Flavor: flavor, KeyPair: keyPair, Policy: osnodev1.PolicyPrivate, Provider: d.id},
	}
}

// drill is a tenant in the hands of one test.
type drill struct {
	*tenant

	t *testing.T
}

// name is the name of the drill's own machine; no other drill has one of that name.
func (d *drill) name() string { return d.id + "-vm" }

// create makes an OpenStackNode as its owner.
func (d *drill) create(name string, change ...func(*osnodev1.OpenStackNode)) *osnodev1.OpenStackNode {
	d.t.Helper()
	osn := d.wish(name)
	for _, one := range change {
		one(osn)
	}
	require.NoError(d.t, d.user.Create(d.t.Context(), osn))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.made[name] = osn.DeepCopy()
	return osn
}

// get is an OpenStackNode as it is now.
func (d *drill) get(name string) *osnodev1.OpenStackNode {
	d.t.Helper()
	osn := &osnodev1.OpenStackNode{}
	require.NoError(d.t, d.admin.Get(d.t.Context(), types.NamespacedName{Namespace: d.namespace, Name: name}, osn))
	return osn
}

// eventually waits until done says so; it also says how things are.
func (d *drill) eventually(what string, done func() (ok bool, state string)) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	for {
		ok, state := done()
		if ok {
			return
		}
		if !pause(ctx, interval) {
			require.FailNow(d.t, "not in time: "+what, state)
		}
	}
}

// reaches waits until an OpenStackNode is in a phase.
func (d *drill) reaches(name string, phase osnodev1.Phase) *osnodev1.OpenStackNode {
	d.t.Helper()
	return d.until(name, "is "+string(phase), func(osn *osnodev1.OpenStackNode) bool { return osn.Status.Phase == phase })
}

func (d *drill) until(name, what string, is func(*osnodev1.OpenStackNode) bool) *osnodev1.OpenStackNode {
	d.t.Helper()
	osn := &osnodev1.OpenStackNode{}
	d.eventually(name+" "+what, func() (bool, string) {
		if err := d.admin.Get(d.t.Context(), types.NamespacedName{Namespace: d.namespace, Name: name}, osn); err != nil {
			return false, err.Error()
		}
		return is(osn), describe(osn)
	})
	return osn
}

func describe(osn *osnodev1.OpenStackNode) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s (server %+v, intent %+v, last error %+v)\n", osn.Status.Phase, osn.Status.Description, osn.Status.Server, osn.Status.Intent, osn.Status.LastError)
	for _, c := range osn.Status.Conditions {
		fmt.Fprintf(&text, "  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	return text.String()
}

// running makes an OpenStackNode and waits until it is one.
func (d *drill) running(name string, change ...func(*osnodev1.OpenStackNode)) *osnodev1.OpenStackNode {
	d.t.Helper()
	d.create(name, change...)
	return d.reaches(name, osnodev1.PhaseRunning)
}

// condition asserts the status, reason and message of a condition; an empty message is any.
func (d *drill) condition(osn *osnodev1.OpenStackNode, kind string, status metav1.ConditionStatus, reason, message string) {
	d.t.Helper()
	found := meta.FindStatusCondition(osn.Status.Conditions, kind)
	if !assert.NotNil(d.t, found, "condition %s of %s", kind, describe(osn)) {
		return
	}
	assert.Equal(d.t, status, found.Status, "%s of %s", kind, describe(osn))
	assert.Equal(d.t, reason, found.Reason, "%s of %s", kind, describe(osn))
	if message != "" {
		assert.Contains(d.t, found.Message, message)
	}
}

// told asserts how many Events with a reason there are about an OpenStackNode.
func (d *drill) told(osn *osnodev1.OpenStackNode, reason string, want int) {
	d.t.Helper()
	d.eventually(fmt.Sprintf("%d Events %s", want, reason), func() (bool, string) {
		count, all := d.events(osn, reason)
		return count == want, strings.Join(all, "\n")
	})
}

func (d *drill) events(osn *osnodev1.OpenStackNode, reason string) (count int, all []string) {
	d.t.Helper()
	list := &corev1.EventList{}
	require.NoError(d.t, d.admin.List(d.t.Context(), list, client.InNamespace(d.namespace)))
	for i := range list.Items {
		one := &list.Items[i]
		if one.InvolvedObject.UID != osn.UID {
			continue
		}
		times := 1
		if one.Series != nil {
			times = int(one.Series.Count)
		}
		all = append(all, fmt.Sprintf("%s %s ×%d: %s", one.Type, one.Reason, times, one.Message))
		if one.Reason == reason {
			count += times
		}
	}
	return count, all
}

// change patches an OpenStackNode as its owner.
func (d *drill) change(name string, how func(*osnodev1.OpenStackNode)) error {
	d.t.Helper()
	osn := d.get(name)
	before := osn.DeepCopy()
	how(osn)
	return d.user.Patch(d.t.Context(), osn, client.MergeFrom(before))
}

// remove asks for the end of an OpenStackNode.
func (d *drill) remove(name string) {
	d.t.Helper()
	err := d.user.Delete(d.t.Context(), &osnodev1.OpenStackNode{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: name}})
	require.NoError(d.t, client.IgnoreNotFound(err))
}

func (d *drill) exists(name string) bool {
	d.t.Helper()
	err := d.admin.Get(d.t.Context(), types.NamespacedName{Namespace: d.namespace, Name: name}, &osnodev1.OpenStackNode{})
	require.NoError(d.t, client.IgnoreNotFound(err))
	return !apierrors.IsNotFound(err)
}

// gone waits until an OpenStackNode is gone, and asserts that it has left nothing.
func (d *drill) gone(name string) {
	d.t.Helper()
	last := d.made[name]
	osn := &osnodev1.OpenStackNode{}
	d.eventually(name+" is gone", func() (bool, string) {
		err := d.admin.Get(d.t.Context(), types.NamespacedName{Namespace: d.namespace, Name: name}, osn)
		return apierrors.IsNotFound(err), describe(osn)
	})
	d.nothingLeft(last.UID)
}

// finish deletes all that the drill has made, and asserts that nothing is left.
func (d *drill) finish() {
	d.t.Helper()
	d.faults.Clear()
	var names []string
	d.mu.Lock()
	for name := range d.made {
		names = append(names, name)
	}
	d.mu.Unlock()
	slices.Sort(names)
	for _, name := range names {
		d.remove(name)
	}
	for _, name := range names {
		d.gone(name)
	}
}

// undisturbed asserts that a node works, and has worked since it first did.
func (d *drill) undisturbed(osn *osnodev1.OpenStackNode) {
	d.t.Helper()
	now := d.reaches(osn.Name, osnodev1.PhaseRunning)
	d.condition(now, osnodev1.ConditionReady, metav1.ConditionTrue, osnodev1.ReasonReady, "The node is running")
	phases := d.history.phases(osn.UID)
	assert.Equal(d.t, 1, countOf(phases, osnodev1.PhaseRunning), "%s went through %v", osn.Name, phases)
	assert.NotContains(d.t, phases, osnodev1.PhaseFailed)
	assert.Len(d.t, d.everMade(osn.UID), 1)
}

func countOf[T comparable](all []T, one T) int {
	count := 0
	for _, other := range all {
		if other == one {
			count++
		}
	}
	return count
}
