// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package osnode_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// TestOsnodeGuide is the user guide's transcript, with two nodes that really join.
func TestOsnodeGuide(t *testing.T) {
	w := theWorld(t)
	u := w.user(t, openstack.Zangrand, openstack.CMS)

	out := u.kubectl(t, "apply", "-f", "osnode.yml")
	assert.Equal(t, "openstacknode.osnode.infn.it/osn-01 created\nopenstacknode.osnode.infn.it/osn-02 created\n", out)
	t.Cleanup(func() {
		if t.Failed() {
			w.report(t, "cms", "osn-01", "osn-02")
		}
	})
	began := time.Now()
	u.kubectl(t, "wait", "--for=condition=Ready", "osn/osn-01", "osn/osn-02", "--timeout=170s")
	t.Logf("both nodes are Ready %s after kubectl apply", time.Since(began).Round(100*time.Millisecond))

	t.Run("tables", func(t *testing.T) { tables(t, u) })
	t.Run("describe", func(t *testing.T) { describes(t, u) })
	t.Run("node", func(t *testing.T) { nodesAreAsTheyShould(t, u) })
	t.Run("pod", func(t *testing.T) { podRuns(t, u) })
	t.Run("delete", func(t *testing.T) { deletes(t, u) })
}

// volatile are the parts of kubectl's tables that are never twice the same.
func volatile() []struct{ pattern, replacement string } {
	return []struct{ pattern, replacement string }{
		{`(osn-\d\d)-\d{13}\b`, "$1-1696949601872"},
		{`\b10\.88\.16\.\d+\b`, "10.64.53.91"},
		{`\b(\d+m)?\d+s$`, "13d"},
	}
}

// rows are a table's rows, by columns, with the volatile parts replaced.
func rows(table string) [][]string {
	columns := regexp.MustCompile(`\s{2,}`)
	var rows [][]string
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		for _, v := range volatile() {
			line = regexp.MustCompile(v.pattern).ReplaceAllString(line, v.replacement)
		}
		rows = append(rows, columns.Split(line, -1))
	}
	return rows
}

func golden(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return string(data)
}

func tables(t *testing.T, u user) {
	assert.Equal(t, rows(golden(t, "get.txt")), rows(u.kubectl(t, "get", "osn")))
	assert.Equal(t, rows(golden(t, "get-wide.txt")), rows(u.kubectl(t, "get", "osn", "-o", "wide")))
	assert.Equal(t, rows(golden(t, "get-wide.txt"))[:2], rows(u.kubectl(t, "get", "osn", "-o", "wide", "osn-01")))
}

// describes looks for each line of the guide's output, in its order; a star stands for anything. There may be more.
func describes(t *testing.T, u user) {
	out := u.kubectl(t, "describe", "osn", "osn-01")
	// How far values are moved to the right depends on the longest name beside them.
	aligned := regexp.MustCompile(`: +`)
	lines := strings.Split(aligned.ReplaceAllString(out, ": "), "\n")
	for wanted := range strings.Lines(golden(t, "describe.txt")) {
		wanted = aligned.ReplaceAllString(strings.TrimRight(wanted, "\n "), ": ")
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(wanted), `\*`, ".+") + `\s*$`)
		found := -1
		for i, line := range lines {
			if pattern.MatchString(line) {
				found = i
				break
			}
		}
		if !assert.GreaterOrEqual(t, found, 0, "the line %q is missing in:\n%s", wanted, out) {
			return
		}
		lines = lines[found+1:]
	}
}

// nodesAreAsTheyShould looks at what pods are placed by, and at what the token left.
func nodesAreAsTheyShould(t *testing.T, u user) {
	for name, pool := range map[string]string{"osn-01": "p-", "osn-02": "u-"} {
		osn, err := u.osn(t.Context(), "cms", name)
		require.NoError(t, err)
		id := map[string]string{"p-": osn.Labels[osnodev1.LabelProjectID], "u-": osn.Labels[osnodev1.LabelUserID]}[pool]
		require.NotEmpty(t, id)
		node := &corev1.Node{}
		require.NoError(t, u.client.Get(t.Context(), client.ObjectKey{Name: osn.Status.NodeID}, node))
		assert.Equal(t, osn.Status.NodeID, node.Labels[corev1.LabelHostname])
		assert.Equal(t, pool+id, node.Labels[osnodev1.NodeLabelPool])
		taints := slices.DeleteFunc(node.Spec.Taints, func(taint corev1.Taint) bool {
			return taint.Key == corev1.TaintNodeNotReady // Kubernetes' own goes a little later than the node is Ready
		})
		assert.Equal(t, []corev1.Taint{{Key: osnodev1.TaintPool, Value: pool + id, Effect: corev1.TaintEffectNoSchedule}}, taints)
		assert.Equal(t, "openstack://"+u.cloud.Region()+"/"+osn.Status.Server.ID, node.Spec.ProviderID)
		secret := &corev1.Secret{}
		err = u.client.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: osn.Labels[osnodev1.LabelSecret]}, secret)
		assert.True(t, apierrors.IsNotFound(err), "the token is gone: %v", err)
		assert.Equal(t, int64(2), osn.Generation, "defaults were filled in once")
	}
}

// podRuns runs a pod on the node that the guide's nodeSelector names, and looks into it.
func podRuns(t *testing.T, u user) {
	osn, err := u.osn(t.Context(), "cms", "osn-01")
	require.NoError(t, err)
	manifest := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "dnsutils-shared", "annotations": {"osn.infn.it/policy": "shared"}},
		"spec": {"restartPolicy": "Always", "terminationGracePeriodSeconds": 1, "nodeSelector": {"kubernetes.io/hostname": %q},
		"containers": [{"name": "dnsutils", "image": "docker.io/library/busybox:1.36", "command": ["sleep", "36000000"]}]}}`,
		osn.Status.NodeID)
	file := filepath.Join(t.TempDir(), "pod.json")
	require.NoError(t, os.WriteFile(file, []byte(manifest), 0o600))
	assert.Contains(t, u.kubectl(t, "apply", "-f", file), "pod/dnsutils-shared created\n")
	u.kubectl(t, "wait", "--for=condition=Ready", "pod/dnsutils-shared", "--timeout=120s")
	wide := rows(u.kubectl(t, "get", "pods", "-o", "wide"))
	require.Len(t, wide, 2)
	assert.Contains(t, wide[1], "osn-01-1696949601872")
	assert.Equal(t, "hello\n", u.kubectl(t, "exec", "dnsutils-shared", "--", "echo", "hello"), "the kubelet's serving certificate is approved")
	assert.Contains(t, u.kubectl(t, "exec", "dnsutils-shared", "--", "nslookup", "kubernetes.default.svc.cluster.local"), "Address")
	u.kubectl(t, "delete", "pod", "dnsutils-shared")
}

// deletes is the guide's last command, and looks for what it might have left.
func deletes(t *testing.T, u user) {
	var nodes, uids []string
	for _, name := range []string{"osn-01", "osn-02"} {
		osn, err := u.osn(t.Context(), "cms", name)
		require.NoError(t, err)
		nodes, uids = append(nodes, osn.Status.NodeID), append(uids, string(osn.UID))
	}
	out := u.kubectl(t, "delete", "osn", "osn-01", "osn-02")
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		assert.True(t, strings.HasPrefix(line, fmt.Sprintf(`openstacknode.osnode.infn.it "osn-0%d" deleted`, i+1)), line)
	}
	u.assertNothingLeft(t, openstack.CMS, nodes, uids)
}

// assertNothingLeft proves that nodes are gone, by listing Nova, Neutron, Nodes, Secrets and certificate requests.
func (w *world) assertNothingLeft(t *testing.T, project string, nodes, uids []string) {
	t.Helper()
	session, err := w.cloud.Login(t.Context(), openstack.Zangrand, project)
	require.NoError(t, err)
	// Nova shows a server that is DELETED for a moment longer.
	eventually(t, "Nova has no servers", func(ctx context.Context) (bool, string) {
		var servers struct {
			Servers []struct{ ID, Name, Status string }
		}
		err := session.Do(ctx, "GET", "compute", "/servers/detail", nil, &servers)
		return err == nil && len(servers.Servers) == 0, fmt.Sprint(servers, err)
	})
	var ports struct {
		Ports []struct {
			ID     string
			Device string `json:"device_id"`
		}
	}
	require.NoError(t, session.Do(t.Context(), "GET", "network", "/v2.0/ports?project_id="+session.ProjectID, nil, &ports))
	for _, port := range ports.Ports {
		assert.Empty(t, port.Device, "Neutron's port %s", port.ID)
	}
	for _, name := range nodes {
		err := w.client.Get(t.Context(), client.ObjectKey{Name: name}, &corev1.Node{})
		assert.True(t, apierrors.IsNotFound(err), "Node %s: %v", name, err)
	}
	w.assertNoTokens(t, uids)
	requests := &certificatesv1.CertificateSigningRequestList{}
	require.NoError(t, w.client.List(t.Context(), requests))
	for i := range requests.Items {
		for _, name := range nodes {
			assert.NotContains(t, requests.Items[i].Spec.Username, name, "certificate request")
		}
	}
}

func (w *world) assertNoTokens(t *testing.T, uids []string) {
	t.Helper()
	secrets := &corev1.SecretList{}
	require.NoError(t, w.client.List(t.Context(), secrets, client.InNamespace(metav1.NamespaceSystem)))
	for i := range secrets.Items {
		for _, uid := range uids {
			assert.NotContains(t, secrets.Items[i].Labels, uid)
			for _, value := range secrets.Items[i].Labels {
				assert.NotEqual(t, uid, value, "Secret %s", secrets.Items[i].Name)
			}
		}
	}
}

// report logs what helps to see why nodes did not become what they should.
func (w *world) report(t *testing.T, namespace string, names ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, name := range names {
		osn, err := w.osn(ctx, namespace, name)
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		t.Logf("%s: %s: %s\n%+v", name, osn.Status.Phase, osn.Status.Description, osn.Status.Conditions)
		if osn.Status.Server == nil {
			continue
		}
		console, err := os.ReadFile(filepath.Join(w.lab.Dir(), "machines", osn.Status.Server.ID, "console.log"))
		t.Logf("console of %s (%v):\n%s", name, err, console[max(0, len(console)-4000):])
	}
}
