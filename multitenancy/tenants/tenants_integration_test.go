// SPDX-License-Identifier: Apache-2.0

//go:build integration

package tenants_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/lab/manifest"
	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/multitenancy/tenants"
)

const (
	soon = 20 * time.Second
	tick = 10 * time.Millisecond
	user = "system:kube-mt-tenants"
)

// cluster is that of all tests here; they have projects of their own.
var cluster = kubetest.NewShared(kubetest.Options{}) //nolint:gochecknoglobals // a package's tests share it

func TestMain(m *testing.M) { cluster.Main(m) }

type site struct {
	*kubetest.Cluster

	client *kubernetes.Clientset
}

func newSite(t *testing.T) site {
	t.Helper()
	s := site{Cluster: cluster.Cluster(t)}
	s.client = s.Client()
	require.NoError(t, manifest.Apply(t.Context(), s.RESTConfig(), os.DirFS("../../deploy"),
		"kube-mt-authn/tenants-rbac.yaml", "kube-mt-authz/tenant-role.yaml"))
	return s
}

// start runs a controller with its own rights and no others.
func (s site) start(t *testing.T, change ...func(*tenants.Config)) *tenants.Controller {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig(user))
	require.NoError(t, err)
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	settings := tenants.Config{Client: client, Metrics: prometheus.NewRegistry()}
	for _, one := range change {
		one(&settings)
	}
	controller, err := tenants.New(settings)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, controller.Run(ctx)) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return controller
}

func (s site) namespaces(tb testing.TB, id string) []corev1.Namespace {
	tb.Helper()
	list, err := s.client.CoreV1().Namespaces().List(tb.Context(), metav1.ListOptions{LabelSelector: tenant.LabelProjectID + "=" + id})
	require.NoError(tb, err)
	return list.Items
}

func (s site) namespace(tb testing.TB, name string, labels, annotations map[string]string) {
	tb.Helper()
	_, err := s.client.CoreV1().Namespaces().Create(tb.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: annotations},
	}, metav1.CreateOptions{})
	require.NoError(tb, err)
}

// mayIn tells whether a member of a project may list pods in a namespace.
func (s site) mayIn(tb testing.TB, namespace string, groups ...string) bool {
	tb.Helper()
	review, err := s.client.AuthorizationV1().SubjectAccessReviews().Create(tb.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: "member", Groups: groups, ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: "list", Version: "v1", Resource: "pods",
		}},
	}, metav1.CreateOptions{})
	require.NoError(tb, err)
	return review.Status.Allowed
}

func TestFirstLogin(t *testing.T) {
	s := newSite(t)
	content, err := os.ReadFile("../../deploy/kube-mt-authn/namespace.yaml")
	require.NoError(t, err)
	templates, err := tenants.ParseTemplates(content)
	require.NoError(t, err)
	controller := s.start(t, func(c *tenants.Config) { c.Templates = templates })
	project := tenant.Project{ID: "f1f00000000000000000000000000001", Name: "First Login"}
	began := time.Now()
	controller.Seen(project)
	require.Eventually(t, func() bool { return s.mayIn(t, "first-login", tenant.ProjectGroup(project.ID)) }, soon, tick)
	took := time.Since(began)
	t.Logf("usable after %s", took)
	assert.Less(t, took, 5*time.Second)
	made := s.namespaces(t, project.ID)
	require.Len(t, made, 1)
	assert.Equal(t, "first-login", made[0].Name)
	assert.Equal(t, "First-Login", made[0].Labels[tenant.LabelProjectName])
	assert.Equal(t, "baseline", made[0].Labels["pod-security.kubernetes.io/enforce"])
	assert.False(t, s.mayIn(t, "first-login", tenant.ProjectGroup("another")))
	require.Eventually(t, func() bool {
		_, err := s.client.NetworkingV1().NetworkPolicies("first-login").Get(t.Context(), "from-the-project", metav1.GetOptions{})
		return err == nil
	}, soon, tick)
	assert.True(t, s.mayIn(t, "first-login", "system:serviceaccounts:first-login"))
	_, err = s.client.CoreV1().ResourceQuotas("first-login").Get(t.Context(), "project", metav1.GetOptions{})
	require.NoError(t, err)
	_, err = s.client.RbacV1().RoleBindings("first-login").Get(t.Context(), "osnode-tenant", metav1.GetOptions{})
	require.Error(t, err, "there is no such role here")
	require.Eventually(t, func() bool {
		events, err := s.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=ProjectNamespaceCreated,involvedObject.name=first-login"})
		return assert.NoError(t, err) && len(events.Items) == 1
	}, soon, tick)
}

func TestNamesCollide(t *testing.T) {
	s := newSite(t)
	s.namespace(t, "squatted", nil, nil)
	s.namespace(t, "elsewhere", map[string]string{tenant.LabelProjectID: "e15e0000000000000000000000000000"}, nil)
	controller := s.start(t, func(c *tenants.Config) { c.Reserved = []string{"monitoring"} })
	for name, test := range map[string]struct{ project, want string }{
		"aa000000000000000000000000000001": {"Twin", "twin"},
		"bb000000000000000000000000000002": {"squatted", "squatted-bb000000"},
		"cc000000000000000000000000000003": {"elsewhere", "elsewhere-cc000000"},
		"dd000000000000000000000000000004": {"kube-system", "kube-system-dd000000"},
		"ee000000000000000000000000000005": {"monitoring", "monitoring-ee000000"},
		"ff000000000000000000000000000006": {"default", "default-ff000000"},
	} {
		controller.Seen(tenant.Project{ID: name, Name: test.project})
		require.Eventually(t, func() bool { return s.mayIn(t, test.want, tenant.ProjectGroup(name)) }, soon, tick, test.want)
		require.Len(t, s.namespaces(t, name), 1)
	}
	second := "aa999999000000000000000000000007"
	controller.Seen(tenant.Project{ID: second, Name: "TWIN"})
	require.Eventually(t, func() bool { return s.mayIn(t, "twin-aa999999", tenant.ProjectGroup(second)) }, soon, tick)
	assert.False(t, s.mayIn(t, "twin", tenant.ProjectGroup(second)))
	for _, system := range []string{"kube-system", "default", "squatted", "elsewhere"} {
		bindings, err := s.client.RbacV1().RoleBindings(system).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=mt-tenant"})
		require.NoError(t, err)
		if system != "elsewhere" { // which is a project's, too
			assert.Empty(t, bindings.Items, system)
		}
	}
}

// TestManyAtOnce has three processes told of the same projects, of which pairs have one name.
func TestManyAtOnce(t *testing.T) {
	s := newSite(t)
	controllers := []*tenants.Controller{s.start(t), s.start(t), s.start(t)}
	var logins sync.WaitGroup
	id := func(at int) string { return fmt.Sprintf("%08d%024d", at, 77) }
	for at := range 20 {
		for _, controller := range controllers {
			logins.Go(func() { controller.Seen(tenant.Project{ID: id(at), Name: fmt.Sprintf("crowd-%d", at/2)}) })
		}
	}
	logins.Wait()
	for at := range 20 {
		require.Eventually(t, func() bool {
			made := s.namespaces(t, id(at))
			return len(made) == 1 && s.mayIn(t, made[0].Name, tenant.ProjectGroup(id(at)))
		}, soon, tick, at)
	}
}

func TestAdministratorsChanges(t *testing.T) {
	s := newSite(t)
	own := "ad000000000000000000000000000001"
	s.namespace(t, "own-name", map[string]string{tenant.LabelProjectID: own}, nil)
	_, err := s.client.RbacV1().RoleBindings("own-name").Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "mt-tenant"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "mt-tenant"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "guest"}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	left := "ad000000000000000000000000000002"
	s.namespace(t, "left-alone", map[string]string{tenant.LabelProjectID: left}, map[string]string{tenants.AnnotationManaged: "false"})
	controller := s.start(t, func(c *tenants.Config) { c.Resync = 200 * time.Millisecond })
	controller.Seen(tenant.Project{ID: left, Name: "Left"})
	require.Eventually(t, func() bool { return s.mayIn(t, "own-name", tenant.ProjectGroup(own)) }, soon, tick, "found without a login")
	binding, err := s.client.RbacV1().RoleBindings("own-name").Get(t.Context(), "mt-tenant", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Len(t, binding.Subjects, 3, "the guest stays")
	assert.Empty(t, s.namespaces(t, own)[0].Labels["pod-security.kubernetes.io/enforce"])
	require.NoError(t, s.client.RbacV1().RoleBindings("own-name").Delete(t.Context(), "mt-tenant", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { return s.mayIn(t, "own-name", tenant.ProjectGroup(own)) }, soon, tick, "made again")
	assert.False(t, s.mayIn(t, "left-alone", tenant.ProjectGroup(left)))
	assert.Len(t, s.namespaces(t, left), 1)
}

// directory knows all projects but some.
type directory struct {
	mu     sync.Mutex
	gone   map[string]bool
	broken error
}

func (d *directory) Exists(_ context.Context, id string) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.gone[id], d.broken
}

func (d *directory) set(id string, gone bool, broken error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone, d.broken = map[string]bool{id: gone}, broken
}

func TestProjectGone(t *testing.T) {
	s := newSite(t)
	id := "90e00000000000000000000000000001"
	known := &directory{}
	s.start(t, func(c *tenants.Config) {
		c.Resync, c.Directory, c.Projects = 100*time.Millisecond, known, []tenant.Project{{ID: id, Name: "Gone"}}
	})
	marked := func() string {
		namespaces := s.namespaces(t, id)
		if len(namespaces) != 1 {
			return "none"
		}
		return namespaces[0].Annotations[tenants.AnnotationGone]
	}
	require.Eventually(t, func() bool { return marked() == "" }, soon, tick, "made without a login")
	known.set(id, true, errors.New("no answer"))
	time.Sleep(400 * time.Millisecond)
	assert.Empty(t, marked(), "cannot tell is not gone")
	known.set(id, true, nil)
	require.Eventually(t, func() bool {
		_, err := time.Parse(time.RFC3339, marked())
		return err == nil
	}, soon, tick)
	first := marked()
	time.Sleep(1200 * time.Millisecond)
	assert.Equal(t, first, marked(), "since when it is gone stays")
	known.set(id, false, nil)
	require.Eventually(t, func() bool { return marked() == "" }, soon, tick)
}

// TestDeletedNamespace has an administrator delete a namespace whose members still log in.
func TestDeletedNamespace(t *testing.T) {
	s := newSite(t)
	project := tenant.Project{ID: "de100000000000000000000000000001", Name: "Deleted"}
	controller := s.start(t, func(c *tenants.Config) { c.Resync = 300 * time.Millisecond })
	controller.Seen(project)
	require.Eventually(t, func() bool { return s.mayIn(t, "deleted", tenant.ProjectGroup(project.ID)) }, soon, tick)
	old := s.namespaces(t, project.ID)[0].UID
	require.NoError(t, s.client.CoreV1().Namespaces().Delete(t.Context(), "deleted", metav1.DeleteOptions{}))
	time.Sleep(time.Second)
	assert.NotNil(t, s.namespaces(t, project.ID)[0].DeletionTimestamp)
	// No namespace controller runs here, so this test ends the deletion.
	ending, err := s.client.CoreV1().Namespaces().Get(t.Context(), "deleted", metav1.GetOptions{})
	require.NoError(t, err)
	ending.Spec.Finalizers = nil
	_, err = s.client.CoreV1().Namespaces().Finalize(t.Context(), ending, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		controller.Seen(project)
		made := s.namespaces(t, project.ID)
		return len(made) == 1 && made[0].UID != old
	}, soon, 50*time.Millisecond)
}

func TestRights(t *testing.T) {
	s := newSite(t)
	for name, test := range map[string]struct {
		attributes authorizationv1.ResourceAttributes
		allowed    bool
	}{
		"create namespaces":  {authorizationv1.ResourceAttributes{Verb: "create", Resource: "namespaces"}, true},
		"delete namespaces":  {authorizationv1.ResourceAttributes{Verb: "delete", Resource: "namespaces"}, false},
		"read secrets":       {authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: "default"}, false},
		"bind mt-tenant":     {authorizationv1.ResourceAttributes{Verb: "bind", Group: rbacv1.GroupName, Resource: "clusterroles", Name: "mt-tenant"}, true},
		"bind cluster-admin": {authorizationv1.ResourceAttributes{Verb: "bind", Group: rbacv1.GroupName, Resource: "clusterroles", Name: "cluster-admin"}, false},
		"delete bindings":    {authorizationv1.ResourceAttributes{Verb: "delete", Group: rbacv1.GroupName, Resource: "rolebindings", Namespace: "default"}, false},
	} {
		review, err := s.client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &test.attributes},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		assert.Equal(t, test.allowed, review.Status.Allowed, name)
	}
}
