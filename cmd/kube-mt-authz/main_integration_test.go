// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/lab/manifest"
	"github.com/cloudveneto/caas/internal/programtest"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	alice, bob = "a11ce000000000000000000000000000", "b0b00000000000000000000000000000"
	project    = "c0ffee00000000000000000000000000"
	namespace  = "cms"
	soon       = 30 * time.Second
)

// setup is an API server, and the program with its files as deploy has them.
type setup struct {
	*kubetest.Cluster

	tb                 testing.TB
	dir, listen, opsAt string
	process            *programtest.Process
}

func (s *setup) path(name string) string { return filepath.Join(s.dir, name) }

func newSetup(tb testing.TB) *setup {
	tb.Helper()
	s := &setup{tb: tb, dir: tb.TempDir(), listen: programtest.FreeAddress(tb), opsAt: programtest.FreeAddress(tb)}
	s.certificates()
	s.deployedFile("authz.kubeconfig")
	s.deployedFile("authz.yaml")
	config, err := binary.Command(tb, "--config", s.path("authz.yaml"), "--print-authorization-config").Output()
	require.NoError(tb, err)
	require.NoError(tb, os.WriteFile(s.path("authorization.yaml"), config, 0o600))
	s.Cluster = kubetest.Start(tb, kubetest.Options{APIServerArgs: []string{"--authorization-config=" + s.path("authorization.yaml")}})
	require.NoError(tb, manifest.Apply(tb.Context(), s.RESTConfig(), os.DirFS(deployed), "rbac.yaml", "tenant-role.yaml"))
	_, err = s.Client().CoreV1().Namespaces().Create(tb.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{tenant.LabelProjectID: project}},
	}, metav1.CreateOptions{})
	require.NoError(tb, err)
	_, err = s.Client().RbacV1().RoleBindings(namespace).Create(tb.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "mt-tenant"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "mt-tenant"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: tenant.ProjectGroup(project)}},
	}, metav1.CreateOptions{})
	require.NoError(tb, err)
	return s
}

func (s *setup) certificates() {
	ca, _, err := kube.NewCA("webhooks")
	require.NoError(s.tb, err)
	server, err := ca.Serving("kube-mt-authz", "127.0.0.1")
	require.NoError(s.tb, err)
	client, err := ca.Client("kube-apiserver")
	require.NoError(s.tb, err)
	for name, content := range map[string][]byte{
		"ca.crt": ca.PEM, "authz.crt": server.Cert, "authz.key": server.Key, "apiserver-client.crt": client.Cert, "apiserver-client.key": client.Key,
	} {
		require.NoError(s.tb, os.WriteFile(s.path(name), content, 0o600))
	}
}

// deployedFile copies a file of deploy to where this test has its directory and port.
func (s *setup) deployedFile(name string) {
	content, err := os.ReadFile(filepath.Join(deployed, name))
	require.NoError(s.tb, err)
	text := strings.NewReplacer("/etc/kubernetes/mt/", s.dir+"/", "127.0.0.1:9643", s.listen).Replace(string(content))
	require.NoError(s.tb, os.WriteFile(s.path(name), []byte(text), 0o600))
}

// launch starts the program and returns how long it took until it was ready.
func (s *setup) launch() time.Duration {
	s.tb.Helper()
	reader, err := os.ReadFile(s.Kubeconfig("system:kube-mt-authz"))
	require.NoError(s.tb, err)
	require.NoError(s.tb, os.WriteFile(s.path("authz-reader.kubeconfig"), reader, 0o600))
	began := time.Now()
	s.process = programtest.Start(s.tb, binary.Command(s.tb, "--config", s.path("authz.yaml"), "--ops-listen", s.opsAt))
	require.Eventually(s.tb, func() bool { return s.get("/readyz").code == http.StatusOK }, 2*time.Minute, 10*time.Millisecond, s.process)
	return time.Since(began)
}

type page struct {
	code int
	body string
}

func (s *setup) get(path string) page {
	request, err := http.NewRequestWithContext(s.tb.Context(), http.MethodGet, "http://"+s.opsAt+path, http.NoBody)
	require.NoError(s.tb, err)
	response, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return page{}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(s.tb, err)
	return page{response.StatusCode, string(body)}
}

// as is a client of a member of the project.
func (s *setup) as(id string) *kubernetes.Clientset {
	config := s.RESTConfig()
	config.Impersonate = rest.ImpersonationConfig{
		UserName: id, UID: id, Groups: []string{tenant.GroupAuthenticated, tenant.ProjectGroup(project), "system:authenticated"},
		Extra: map[string][]string{tenant.ExtraUserID: {id}, tenant.ExtraProjectID: {project}},
	}
	client, err := kubernetes.NewForConfig(config)
	require.NoError(s.tb, err)
	return client
}

func (s *setup) configMap(ctx context.Context, name, owner string) error {
	_, err := s.Client().CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: tenant.Mark{UserID: owner, UserName: owner, Project: tenant.Project{ID: project, Name: "CMS"}}.Labels(),
	}}, metav1.CreateOptions{})
	return err
}

// TestIntegrationProgram runs the program with the files of deploy, and tenants with their rights there.
func TestIntegrationProgram(t *testing.T) {
	s := newSetup(t)
	require.NoError(t, s.configMap(t.Context(), "hers", alice))
	require.NoError(t, s.configMap(t.Context(), "his", bob))
	asAlice := s.as(alice).CoreV1()
	_, err := asAlice.ConfigMaps(namespace).Get(t.Context(), "hers", metav1.GetOptions{})
	require.True(t, err != nil, "without the webhook nobody gets anything")
	t.Logf("ready after %s", s.launch())

	get := func(name string) error {
		_, err := asAlice.ConfigMaps(namespace).Get(t.Context(), name, metav1.GetOptions{})
		return err
	}
	require.NoError(t, get("hers"))
	require.True(t, apierrors.IsForbidden(get("his")))
	assert.ErrorContains(t, get("his"), "mt: not found or not yours")
	_, err = asAlice.ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
	assert.ErrorContains(t, err, "mt: select what is yours: -l osn.infn.it/userid="+alice)
	own := metav1.ListOptions{LabelSelector: tenant.LabelUserID + "=" + alice}
	list, err := asAlice.ConfigMaps(namespace).List(t.Context(), own)
	require.NoError(t, err)
	assert.Len(t, list.Items, 1)
	_, err = asAlice.Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
	require.NoError(t, err)
	_, err = asAlice.Nodes().List(t.Context(), metav1.ListOptions{LabelSelector: tenant.NodePoolLabel + "=" + tenant.PrivatePool(alice)})
	require.NoError(t, err)
	_, err = s.as(alice).RbacV1().Roles(namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)

	t.Run("its rights suffice", func(t *testing.T) {
		assert.NotContains(t, s.process.String(), "forbidden")
		assert.NotContains(t, s.process.String(), "level=ERROR")
	})
	t.Run("metrics", func(t *testing.T) {
		metrics := s.get("/metrics").body
		assert.Contains(t, metrics, `mt_authz_decisions_total{reason="owner",resource="configmaps",result="noOpinion",verb="get"}`)
		assert.Contains(t, metrics, `mt_authz_index_objects{resource="configmaps"}`)
		assert.Contains(t, metrics, `mt_authz_index_synced{resource="secrets"} 1`)
	})
	t.Run("nobody else may ask", func(t *testing.T) {
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+s.listen+"/authorize", strings.NewReader("{}"))
		require.NoError(t, err)
		response, err := client.Do(request)
		if err == nil {
			response.Body.Close()
		}
		assert.ErrorContains(t, err, "certificate required")
	})
	t.Run("restart", func(t *testing.T) {
		require.NoError(t, s.process.End(syscall.SIGTERM), s.process)
		require.Error(t, get("hers"))
		s.launch()
		require.NoError(t, get("hers"))
	})
}

const manyObjects = 200_000

// BenchmarkProgram measures, with 200,000 objects: from the start until it is ready, its memory, and what a request takes
// with it and without it. It makes the objects once.
func BenchmarkProgram(b *testing.B) {
	s := newSetup(b)
	group, ctx := errgroup.WithContext(b.Context())
	for worker := range 32 {
		group.Go(func() error {
			for i := worker; i < manyObjects; i += 32 {
				if err := s.configMap(ctx, fmt.Sprintf("some-workload-5d9f7c6b8d-%06d", i), fmt.Sprintf("%032x", i%500)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(b, group.Wait())
	require.NoError(b, s.configMap(b.Context(), "hers", alice))
	for b.Loop() {
		b.ReportMetric(s.launch().Seconds(), "s-to-ready")
		ready := cpuSeconds(b, s.process.PID())
		b.ReportMetric(residentMiB(b, s.process.PID()), "MiB-RSS")
		b.ReportMetric(latency(b, s.Client()), "µs-without")
		b.ReportMetric(latency(b, s.as(alice)), "µs-with")
		b.ReportMetric(residentMiB(b, s.process.PID()), "MiB-RSS-later")
		b.ReportMetric(ready, "CPU-s-to-ready")
		require.NoError(b, s.process.End(syscall.SIGTERM))
	}
}

func residentMiB(tb testing.TB, pid int) float64 {
	tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(tb, err)
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kib); err == nil {
			return kib / 1024
		}
	}
	require.Fail(tb, "no VmRSS")
	return 0
}

// cpuSeconds is what a process has computed so far. Unlike time it means something on a busy machine.
func cpuSeconds(tb testing.TB, pid int) float64 {
	tb.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(tb, err)
	_, fields, found := strings.Cut(string(stat), ") ")
	require.True(tb, found)
	var user, system float64
	values := strings.Fields(fields)
	_, err = fmt.Sscan(values[11]+" "+values[12], &user, &system)
	require.NoError(tb, err)
	const ticksPerSecond = 100
	return (user + system) / ticksPerSecond
}

// latency is the mean of a named get.
func latency(tb testing.TB, client *kubernetes.Clientset) float64 {
	tb.Helper()
	const rounds = 2000
	began := time.Now()
	for range rounds {
		_, err := client.CoreV1().ConfigMaps(namespace).Get(tb.Context(), "hers", metav1.GetOptions{})
		require.NoError(tb, err)
	}
	return float64(time.Since(began).Microseconds()) / rounds
}
