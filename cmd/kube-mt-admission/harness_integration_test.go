// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/programtest"
)

const (
	soon = 30 * time.Second
	tick = 50 * time.Millisecond

	project   = "55158de200964f7c8aa5ca486e6cb7ea"
	namespace = "cms"
	alice     = "a11ce000000000000000000000000001"
	bob       = "b0b00000000000000000000000000002"
)

// site is a cluster whose API server asks the real program.
type site struct {
	*kubetest.Cluster
	t        *testing.T
	admin    *kubernetes.Clientset
	warnings *warnings
}

// newSite starts both; the program's files are those of deploy.
func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	port, err := kube.FreePort(t.Context())
	require.NoError(t, err)
	opsPort, err := kube.FreePort(t.Context())
	require.NoError(t, err)
	certificates(t, dir)
	listen := fmt.Sprintf("127.0.0.1:%d", port)
	config := deployed(t, "admission.yaml", dir, "127.0.0.1:9445", listen, "127.0.0.1:9446", fmt.Sprintf("127.0.0.1:%d", opsPort), "quarantine: 2m", "quarantine: 5s")
	deployed(t, "webhook-client.kubeconfig", dir, "127.0.0.1:9445", listen)

	s := &site{t: t, warnings: &warnings{}}
	s.Cluster = kubetest.Start(t, kubetest.Options{
		ControllerManager: true, Scheduler: true,
		APIServerArgs: []string{"--admission-control-config-file=" + deployed(t, "apiserver-admission.yaml", dir)},
	})
	s.admin = s.Client()
	s.applyFile("../../deploy/kube-mt-admission/rbac.yaml")
	s.makeProject()
	s.run(config, fmt.Sprintf("http://127.0.0.1:%d/readyz", opsPort))

	printed := binary.Command(t, "--config", config, "--print-webhook-config", "--ca", filepath.Join(dir, "ca.crt"))
	out, err := printed.Output()
	require.NoError(t, err)
	s.apply(string(out))
	s.awaitWebhook()
	return s
}

// deployed copies a file of deploy with other paths and the replacements.
func deployed(t *testing.T, name, dir string, replacements ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../deploy/kube-mt-admission", name))
	require.NoError(t, err)
	all := append([]string{"/etc/kubernetes/mt/", dir + "/"}, replacements...)
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte(strings.NewReplacer(all...).Replace(string(content))), 0o600))
	return path
}

func certificates(t *testing.T, dir string) {
	t.Helper()
	ca, pair, err := kube.NewCA("webhooks")
	require.NoError(t, err)
	serving, err := ca.Serving("kube-mt-admission", "127.0.0.1")
	require.NoError(t, err)
	client, err := ca.Client("kube-apiserver")
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"ca.crt": pair.Cert, "admission.crt": serving.Cert, "admission.key": serving.Key,
		"apiserver-client.crt": client.Cert, "apiserver-client.key": client.Key,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
}

// run starts the program and ends it with the test.
func (s *site) run(config, ready string) {
	command := binary.Command(s.t, "--config", config, "--kubeconfig", s.Kubeconfig("system:kube-mt-admission"))
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	process := programtest.Start(s.t, command)
	s.t.Cleanup(func() { assert.NoError(s.t, process.End(syscall.SIGINT)) })
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, ready, nil)
		require.NoError(c, err)
		response, err := (&http.Client{Timeout: time.Second}).Do(request)
		require.NoError(c, err)
		defer response.Body.Close()
		assert.Equal(c, http.StatusOK, response.StatusCode)
	}, soon, tick)
}

func (s *site) makeProject() {
	ctx := s.t.Context()
	_, err := s.admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: namespace, Labels: map[string]string{"osn.infn.it/projectid": project, "osn.infn.it/projectname": "CMS"},
	}}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	_, err = s.admin.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "members"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "osn:project:" + project}},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	for name, pool := range map[string]string{"alice-1": "u-" + alice, "bob-1": "u-" + bob, "shared-1": "p-" + project} {
		_, err = s.admin.CoreV1().Nodes().Create(ctx, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				"osn.infn.it.node-restriction.kubernetes.io/pool": pool, corev1.LabelHostname: name,
			}},
			Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "osn.infn.it/pool", Value: pool, Effect: corev1.TaintEffectNoSchedule}}},
		}, metav1.CreateOptions{})
		require.NoError(s.t, err)
	}
	// The controller-manager makes the ServiceAccount that pods have.
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		_, err := s.admin.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		assert.NoError(c, err)
	}, soon, tick)
}

// awaitWebhook waits until the API server asks.
func (s *site) awaitWebhook() {
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		made, err := s.as(alice).CoreV1().ConfigMaps(namespace).Create(s.t.Context(),
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		require.NoError(c, err)
		assert.Equal(c, alice, made.Labels["osn.infn.it/userid"])
	}, soon, tick)
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		_, err := s.as(alice).CoreV1().ConfigMaps(namespace).Create(s.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Name: "probe", Labels: map[string]string{"osn.infn.it/unknown": "x"},
		}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		assert.True(c, apierrors.IsForbidden(err), "%v", err)
	}, soon, tick)
}

// config is a user's, as kube-mt-authn would have the API server see them.
func (s *site) config(user string) *rest.Config {
	config := s.RESTConfig()
	config.QPS = -1
	config.WarningHandlerWithContext = s.warnings
	name := map[string]string{alice: "alice@infn.it", bob: "bob@infn.it"}[user]
	config.Impersonate = rest.ImpersonationConfig{
		UserName: name, UID: user, Groups: []string{"system:authenticated", "osn:authenticated", "osn:project:" + project},
		Extra: map[string][]string{
			"osn.infn.it/userid": {user}, "osn.infn.it/username": {name}, "osn.infn.it/projectid": {project}, "osn.infn.it/projectname": {"CMS"},
		},
	}
	return config
}

func (s *site) as(user string) *kubernetes.Clientset {
	client, err := kubernetes.NewForConfig(s.config(user))
	require.NoError(s.t, err)
	return client
}

// asSystem is somebody whom no identity provider knows.
func (s *site) asSystem(name string, groups ...string) *kubernetes.Clientset {
	config := s.RESTConfig()
	config.QPS = -1
	config.Impersonate = rest.ImpersonationConfig{UserName: name, Groups: append(groups, "system:authenticated")}
	client, err := kubernetes.NewForConfig(config)
	require.NoError(s.t, err)
	return client
}

func (s *site) applyFile(path string) {
	content, err := os.ReadFile(path)
	require.NoError(s.t, err)
	s.apply(string(content))
}

// apply creates what the YAML says as an administrator.
func (s *site) apply(content string) {
	require.NoError(s.t, s.create(s.RESTConfig(), content))
}

// create makes all objects of a YAML.
func (s *site) create(config *rest.Config, content string) error {
	client, err := dynamic.NewForConfig(config)
	require.NoError(s.t, err)
	groups, err := restmapper.GetAPIGroupResources(s.admin.Discovery())
	require.NoError(s.t, err)
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(content), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		require.NoError(s.t, err)
		if len(object.Object) == 0 {
			continue
		}
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		require.NoError(s.t, err)
		resource := client.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			_, err = resource.Namespace(namespace).Create(s.t.Context(), object, metav1.CreateOptions{})
		} else {
			_, err = resource.Create(s.t.Context(), object, metav1.CreateOptions{})
		}
		if err != nil {
			return err
		}
	}
}

// warnings are what kubectl would print.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

func (w *warnings) has(part string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(strings.Join(w.texts, "\n"), part)
}
