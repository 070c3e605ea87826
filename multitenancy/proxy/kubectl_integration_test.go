// SPDX-License-Identifier: Apache-2.0

//go:build integration

package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
	"github.com/cloudveneto/caas/multitenancy/proxy"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// TestKubectl is the real kubectl against the real API server with the authorization webhook, which denies all
// collections without the selector.
func TestKubectl(t *testing.T) {
	s := newSite(t)
	t.Run("nothing", s.testNothing)
	s.pod(t, "p-a", alice)
	s.pod(t, "p-b", bob)
	s.configMap(t, "c-b", bob)
	t.Run("reads", s.testReads)
	t.Run("not found", s.testNotFound)
	t.Run("formats", s.testFormats)
	t.Run("watch", s.testWatch)
	t.Run("many watches", s.testManyWatches)
	t.Run("nodes", s.testNodes)
	t.Run("robot", s.testRobot)
	t.Run("whoami", s.testWhoAmI)
	t.Run("writes", s.testWrites)
}

func (s *site) testNothing(t *testing.T) {
	stdout, stderr, err := s.kubectl(t, "alice", "get", "pods")
	require.NoError(t, err, stderr)
	assert.Empty(t, stdout)
	assert.Equal(t, "No resources found in cms namespace.\n", stderr)
}

func (s *site) testReads(t *testing.T) {
	for _, args := range [][]string{
		{"get", "pods"},
		{"get", "pods", "-o", "wide"},
		{"get", "pods", "-o", "yaml"},
		{"get", "pods", "-o", "name"},
		{"get", "pods", "-l", "osn.infn.it/projectid=" + project},
		{"get", "pods", "--chunk-size=1"},
		{"describe", "pods"},
		{"describe", "pod", "p-a"},
		{"get", "pods", "--sort-by=.metadata.name"},
		{"get", "pod", "p-a"},
		{"get", "pods", "--field-selector=metadata.name=p-a"},
		{"get", "all"},
	} {
		stdout, stderr, err := s.kubectl(t, "alice", args...)
		require.NoError(t, err, "%v: %s", args, stderr)
		assert.Contains(t, stdout, "p-a", args)
		assert.NotContains(t, stdout, "p-b", args)
	}
	stdout, stderr, err := s.kubectl(t, "bob", "get", "pods", "-o", "json")
	require.NoError(t, err, stderr)
	var list corev1.PodList
	require.NoError(t, json.Unmarshal([]byte(stdout), &list))
	require.Len(t, list.Items, 1)
	assert.Equal(t, "p-b", list.Items[0].Name)
	_, stderr, err = s.kubectl(t, "alice", "get", "pods", "-l", tenant.LabelUserID+"="+bob)
	require.Error(t, err)
	assert.Contains(t, stderr, "mt: select what is yours")
	_, stderr, err = s.kubectl(t, "alice", "get", "pods", "-A")
	require.Error(t, err)
	assert.Contains(t, stderr, "say which: -n NAMESPACE")
	_, stderr, err = s.kubectl(t, "nobody", "get", "pods")
	require.Error(t, err)
	assert.Contains(t, stderr, "You must be logged in to the server")
}

func (s *site) testNotFound(t *testing.T) {
	for _, name := range []string{"p-b", "nothing"} {
		for _, verb := range []string{"get", "describe", "delete", "logs", "exec"} {
			args := []string{verb, "pod", name}
			switch verb {
			case "logs":
				args = []string{verb, name}
			case "exec":
				args = []string{verb, name, "--", "true"}
			}
			_, stderr, err := s.kubectl(t, "alice", args...)
			require.Error(t, err, args)
			assert.Contains(t, strings.ToLower(stderr), `error from server (notfound): pods "`+name+`" not found`, args)
		}
		_, stderr, err := s.kubectl(t, "alice", "delete", "pod", name, "--ignore-not-found")
		require.NoError(t, err, stderr)
	}
	_, stderr, err := s.kubectl(t, "alice", "get", "leases")
	require.Error(t, err)
	assert.Contains(t, stderr, "(Forbidden)")
	assert.Contains(t, stderr, "not for tenants")
}

// testFormats asks in all the formats that the API server has.
func (s *site) testFormats(t *testing.T) {
	table := "application/json;as=Table;v=v1;g=meta.k8s.io"
	for accept, content := range map[string]string{
		"application/json":                    "application/json",
		"application/vnd.kubernetes.protobuf": "application/vnd.kubernetes.protobuf",
		"application/yaml":                    "application/yaml",
		table + ",application/json":           "application/json",
		"application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io": "application/json",
	} {
		for _, name := range []string{"p-b", "nothing"} {
			got := s.do(t, "alice", http.MethodGet, core+"pods/"+name, "", "Accept", accept)
			assert.Equal(t, http.StatusNotFound, got.code, accept)
			assert.Equal(t, content, strings.SplitN(got.header.Get("Content-Type"), ";", 2)[0])
			assert.Contains(t, got.body, "not found")
			assert.NotContains(t, got.body, "mt:")
			assert.NotContains(t, got.body, "orbidden")
		}
		got := s.do(t, "alice", http.MethodGet, core+"pods", "", "Accept", accept, "Accept-Encoding", "gzip")
		assert.Equal(t, http.StatusOK, got.code, got.body)
		assert.Contains(t, got.body, "p-a")
		assert.NotContains(t, got.body, "p-b")
	}
}

func (s *site) testWatch(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	command := s.command(ctx, t, "alice", "get", "configmaps", "-w", "-o", "name")
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	lines := bufio.NewScanner(stdout)
	s.configMap(t, "w-b", bob)
	s.configMap(t, "w-a", alice)
	require.True(t, lines.Scan())
	assert.Equal(t, "configmap/w-a", lines.Text())
	require.NoError(t, s.Client().CoreV1().ConfigMaps(space).Delete(ctx, "w-a", metav1.DeleteOptions{}))
	require.True(t, lines.Scan())
	assert.Equal(t, "configmap/w-a", lines.Text())
	cancel()
	_ = command.Wait() // it was killed
}

func (s *site) testNodes(t *testing.T) {
	for name, pool := range map[string]string{"n-a": tenant.PrivatePool(alice), "n-b": tenant.PrivatePool(bob), "n-p": tenant.SharedPool(project), "n-x": ""} {
		_, err := s.Client().CoreV1().Nodes().Create(t.Context(), &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{tenant.NodePoolLabel: pool}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	stdout, stderr, err := s.kubectl(t, "alice", "get", "nodes", "-o", "name")
	require.NoError(t, err, stderr)
	assert.Equal(t, "node/n-a\nnode/n-p\n", stdout)
	_, stderr, err = s.kubectl(t, "alice", "get", "node", "n-b")
	require.Error(t, err)
	assert.Equal(t, "Error from server (NotFound): nodes \"n-b\" not found\n", stderr)
	_, stderr, err = s.kubectl(t, "alice", "get", "persistentvolumes")
	require.NoError(t, err)
	assert.Equal(t, "No resources found\n", stderr)
}

// testRobot lists as a ServiceAccount, which acts for its owner.
func (s *site) testRobot(t *testing.T) {
	_, err := s.Client().CoreV1().ServiceAccounts(space).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: meta("robot", alice)}, metav1.CreateOptions{})
	require.NoError(t, err)
	made, err := s.Client().CoreV1().ServiceAccounts(space).CreateToken(t.Context(), "robot", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)
	got := s.do(t, made.Status.Token, http.MethodGet, core+"pods", "")
	require.Equal(t, http.StatusOK, got.code, got.body)
	assert.Contains(t, got.body, `"p-a"`)
	assert.NotContains(t, got.body, `"p-b"`)
	got = s.do(t, made.Status.Token, http.MethodGet, proxy.PathWhoAmI, "")
	assert.JSONEq(t, `{"user":"system:serviceaccount:cms:robot","uid":`+quoteField(t, got.body, "uid")+
		`,"project":{"id":"`+project+`","name":"CMS"},"projects":[{"id":"`+project+`","name":"CMS"}],"namespace":"cms"}`, got.body)
}

func quoteField(t *testing.T, body, field string) string {
	t.Helper()
	fields := map[string]any{}
	require.NoError(t, json.Unmarshal([]byte(body), &fields), body)
	text, err := json.Marshal(fields[field])
	require.NoError(t, err)
	return string(text)
}

func (s *site) testWhoAmI(t *testing.T) {
	got := s.do(t, "alice", http.MethodGet, proxy.PathWhoAmI, "")
	assert.JSONEq(t, `{"user":"alice","uid":"`+alice+`","project":{"id":"`+project+`","name":"CMS"},
		"projects":[{"id":"`+project+`","name":"CMS"}],"namespace":"cms"}`, got.body)
	got = s.do(t, "carol", http.MethodGet, proxy.PathWhoAmI, "")
	assert.Equal(t, http.StatusNotFound, got.code)
	assert.Contains(t, got.body, "the namespace of project cms is being made; try again", "cms is another project's")
	_, err := s.Client().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "cms-" + other[:8], Labels: map[string]string{tenant.LabelProjectID: other}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = s.Client().RbacV1().RoleBindings("cms-"+other[:8]).Create(t.Context(), bindingOf(other), metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		got = s.do(t, "carol", http.MethodGet, proxy.PathWhoAmI, "")
		return got.code == http.StatusOK
	}, soon, 50*time.Millisecond)
	assert.Contains(t, got.body, `"namespace":"cms-`+other[:8]+`"`)
	assert.Equal(t, http.StatusUnauthorized, s.do(t, "nobody", http.MethodGet, proxy.PathWhoAmI, "").code)
}

func (s *site) testWrites(t *testing.T) {
	const manifests = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: NAME\n  labels: {osn.infn.it/userid: " + alice + ", osn.infn.it/visible-to: " + alice + "}\ndata: {a: b}\n"
	write := func(name string) string {
		return httpservertest.Write(t, t.TempDir(), filepath.Base(name)+".yaml", []byte(strings.ReplaceAll(manifests, "NAME", name)))
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"apply", "-f", write("applied")}, "configmap/applied created"},
		{[]string{"apply", "-f", write("applied")}, "configmap/applied unchanged"},
		{[]string{"apply", "--server-side", "-f", write("server-side")}, "configmap/server-side serverside-applied"},
		{[]string{"diff", "-f", write("applied")}, ""},
		{[]string{"label", "configmap", "applied", "x=y"}, "labeled"},
		{[]string{"delete", "-f", write("applied")}, `configmap "applied" deleted`},
		{[]string{"delete", "configmaps", "--all"}, `configmap "server-side" deleted`},
	} {
		stdout, stderr, err := s.kubectl(t, "alice", test.args...)
		require.NoError(t, err, "%v: %s", test.args, stderr)
		assert.Contains(t, stdout, test.want, test.args)
	}
	_, stderr, err := s.kubectl(t, "alice", "apply", "--server-side", "-f", write("c-b"))
	require.Error(t, err)
	assert.Contains(t, stderr, "(Forbidden)", "an apply that is refused is no object that is missing")
	got := s.do(t, "alice", http.MethodDelete, core+"configmaps", "")
	assert.Equal(t, http.StatusOK, got.code, got.body)
	left, err := s.Client().CoreV1().ConfigMaps(space).List(t.Context(), metav1.ListOptions{LabelSelector: tenant.LabelUserID})
	require.NoError(t, err)
	for _, object := range left.Items {
		assert.Equal(t, bob, object.Labels[tenant.LabelUserID], object.Name)
	}
	assert.Len(t, left.Items, 2)
}
