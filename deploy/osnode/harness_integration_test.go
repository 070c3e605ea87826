// SPDX-License-Identifier: Apache-2.0

//go:build integration

package osnode_test

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnode "github.com/cloudveneto/caas/deploy/osnode"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	systemNamespace = "caas-system"
	projectID       = "55158de200964f7c8aa5ca486e6cb7ea"
	userID          = "2ddd446e119b417791492e950553a055"

	soon = 30 * time.Second
	tick = 50 * time.Millisecond
)

var (
	shared = kubetest.NewShared(kubetest.Options{
		ControllerManager: true, // it signs certificates, and checks the types in policies
		APIServerArgs: []string{
			"--feature-gates=MutatingAdmissionPolicy=true",
			"--runtime-config=admissionregistration.k8s.io/v1beta1=true",
		},
	})
	installed sync.Once
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	shared.Main(m)
}

// site is the shared cluster with everything of this directory in it.
type site struct {
	*kubetest.Cluster
	t     *testing.T
	admin client.Client
}

func newSite(t *testing.T) *site {
	t.Helper()
	cluster := shared.Cluster(t)
	s := &site{Cluster: cluster, t: t}
	s.admin = s.client(cluster.RESTConfig())
	installed.Do(func() { s.install() })
	return s
}

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	all := runtime.NewScheme()
	require.NoError(t, scheme.AddToScheme(all))
	require.NoError(t, osnodev1.AddToScheme(all))
	return all
}

func (s *site) client(config *rest.Config) client.Client {
	s.t.Helper()
	config = rest.CopyConfig(config)
	config.QPS = -1
	made, err := client.New(config, client.Options{Scheme: testScheme(s.t)})
	require.NoError(s.t, err)
	return made
}

// install applies the files as an administrator would, and waits until they have effect.
func (s *site) install() {
	ctx := s.t.Context()
	for _, name := range osnode.CRDs() {
		s.applyFile(name)
	}
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		assert.NoError(c, s.admin.List(ctx, &osnodev1.OpenStackNodeList{}))
		assert.NoError(c, s.admin.List(ctx, &osnodev1.OpenStackNodePoolList{}))
	}, soon, tick)
	for _, name := range append(osnode.Rules(), osnode.OwnerLabels) {
		s.applyFile(name)
	}
	s.awaitPolicies()
}

func (s *site) applyFile(name string) {
	s.t.Helper()
	content, err := osnode.Read(name)
	require.NoError(s.t, err)
	s.applyText(string(content))
}

func (s *site) applyText(content string) {
	s.t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(content), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(s.t, err)
		if len(object.Object) == 0 {
			continue
		}
		require.NoError(s.t, s.admin.Create(context.WithoutCancel(s.t.Context()), object), "%s", object.GetName())
	}
}

// awaitPolicies waits until each kind of policy refuses or changes something.
func (s *site) awaitPolicies() {
	s.t.Helper()
	ctx := s.t.Context()
	s.namespace("warm-up", nil)
	stranger := s.node("warm-up-1700000000000")
	bad := newPool("warm-up", "bad")
	bad.Spec.Template.Labels = map[string]string{"osn.infn.it/x": "y"}
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		assert.True(c, apierrors.IsForbidden(stranger.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "warm-up-1700000000000"}}, client.DryRunAll)))
		assert.True(c, apierrors.IsInvalid(s.admin.Create(ctx, bad.DeepCopy(), client.DryRunAll)))
	}, soon, tick)
	s.awaitOwnerLabels("warm-up")
}

func (s *site) awaitOwnerLabels(namespace string) {
	s.t.Helper()
	ctx, tenant := context.WithoutCancel(s.t.Context()), s.tenant(namespace, "warm-up")
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		osn := newNode(namespace, "warm-up")
		if assert.NoError(c, tenant.Create(ctx, osn, client.DryRunAll)) {
			assert.Equal(c, "warm-up", osn.Labels[osnodev1.LabelUserID])
		}
	}, soon, tick)
}

func (s *site) namespace(name string, labels map[string]string) string {
	s.t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	require.NoError(s.t, s.admin.Create(s.t.Context(), namespace))
	return name
}

// user is a client with a certificate of its own.
func (s *site) user(name string, groups ...string) client.Client {
	s.t.Helper()
	return s.client(s.userConfig(name, groups...))
}

func (s *site) userConfig(name string, groups ...string) *rest.Config {
	s.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig(name, groups...))
	require.NoError(s.t, err)
	return config
}

// node has the certificate of a node, whether there is one or not.
func (s *site) node(name string) client.Client {
	s.t.Helper()
	return s.user("system:node:"+name, "system:nodes")
}

// tenant is somebody who has logged in by Keystone, as a member of a project, with its
// rights in all namespaces that are bound to the role.
func (s *site) tenant(namespace, user string) client.Client {
	s.t.Helper()
	return s.tenantOf(namespace, user, map[string][]string{
		"osn.infn.it/userid": {user}, "osn.infn.it/username": {user + "@infn.it"},
		"osn.infn.it/projectid": {projectID}, "osn.infn.it/projectname": {"QST"},
	})
}

func (s *site) tenantOf(namespace, user string, extra map[string][]string) client.Client {
	s.t.Helper()
	binding := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
		"metadata": map[string]any{"namespace": namespace, "name": "tenants-" + user},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "osnode-tenant"},
		"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}},
	}}
	err := s.admin.Create(context.WithoutCancel(s.t.Context()), binding)
	require.NoError(s.t, client.IgnoreAlreadyExists(err))
	config := s.RESTConfig()
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}, Extra: extra}
	return s.client(config)
}

// controllerConfig is the controller's own identity, with a token as its pod has one.
func (s *site) controllerConfig() *rest.Config {
	s.t.Helper()
	admin, err := kubernetes.NewForConfig(s.RESTConfig())
	require.NoError(s.t, err)
	request, err := admin.CoreV1().ServiceAccounts(systemNamespace).CreateToken(s.t.Context(), "osnode-controller",
		&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	config := rest.AnonymousClientConfig(s.RESTConfig())
	config.BearerToken = request.Status.Token
	return config
}

func (s *site) kubectl(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	program := filepath.Join(s.ControlPlane().Config().BinDir, "kubectl")
	command := exec.CommandContext(ctx, program, append([]string{"--kubeconfig=" + s.AdminKubeconfig()}, args...)...)
	output, err := command.CombinedOutput()
	require.NoError(s.t, err, "kubectl %v: %s", args, output)
	return string(output)
}

func newNode(namespace, name string) *osnodev1.OpenStackNode {
	return &osnodev1.OpenStackNode{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       osnodev1.OpenStackNodeSpec{Flavor: "cloudveneto.medium", KeyPair: "my-key", Policy: osnodev1.PolicyShared},
	}
}

func newPool(namespace, name string) *osnodev1.OpenStackNodePool {
	return &osnodev1.OpenStackNodePool{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: osnodev1.OpenStackNodePoolSpec{
			Flavors:  []string{"cloudveneto.medium"},
			Template: osnodev1.NodeTemplate{KeyPair: "my-key", Policy: osnodev1.PolicyPrivate},
		},
	}
}

func TestIntegrationPoliciesHaveTheRightTypes(t *testing.T) {
	s := newSite(t)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var policies admissionv1.ValidatingAdmissionPolicyList
		require.NoError(c, s.admin.List(t.Context(), &policies))
		require.NotEmpty(c, policies.Items)
		for _, policy := range policies.Items {
			require.NotNil(c, policy.Status.TypeChecking, policy.Name)
			assert.Empty(c, policy.Status.TypeChecking.ExpressionWarnings, policy.Name)
		}
	}, soon, tick)
}
