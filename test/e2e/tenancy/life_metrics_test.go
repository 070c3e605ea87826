// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/proc"
	"github.com/cloudveneto/caas/internal/lab/tools"
)

const (
	metricsServer  = "metrics-server"
	metricsAddress = "10.88.0.1"
	metricsPort    = 9556
	metricsUser    = "system:metrics-server"
	metricsPath    = "metrics.k8s.io/v1beta1/pods"
	metricsGrace   = 5 * time.Second
	metricsLog     = 4 << 10
	// figuresCome in half a minute when the machine has time for them; a kubelet that has too much to do answers late.
	figuresCome = 3 * time.Minute
)

// startMetrics runs metrics-server as a site with no worker nodes of its own does: beside the API server, with no more
// rights than it needs. It is there until the test ends; a cluster without one has no such API.
func (w *world) startMetrics(t *testing.T) {
	t.Helper()
	program := w.builds(t, metricsServer, tools.MetricsServer)
	files := w.file(metricsServer)
	ca, err := certificateFor(files, metricsServer, "metrics-server.kube-system.svc")
	require.NoError(t, err)
	cluster, err := w.lab.Cluster(lab.CaaS)
	require.NoError(t, err)
	kubeconfig := files + ".kubeconfig"
	require.NoError(t, cluster.UserKubeconfig(kubeconfig, w.direct, metricsUser))
	w.given(t, "metrics-server.yaml", "USER", metricsUser)
	if left, err := w.lab.Process(metricsServer); err == nil {
		require.NoError(t, left.Kill(), "one that an interrupted test has left")
	}
	process, err := w.lab.Start(t.Context(), proc.Spec{Name: metricsServer, Path: program, Args: []string{
		"--bind-address=" + metricsAddress, "--secure-port=" + strconv.Itoa(metricsPort),
		"--tls-cert-file=" + files + ".crt", "--tls-private-key-file=" + files + ".key",
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--kubelet-certificate-authority=" + filepath.Join(w.lab.Dir(), "mt", "cluster-ca.crt"),
		"--kubelet-preferred-address-types=InternalIP", "--metric-resolution=15s", "--kubelet-request-timeout=13s",
	}})
	require.NoError(t, err)
	t.Cleanup(func() {
		if log, err := os.ReadFile(process.Spec().LogFile); t.Failed() && err == nil {
			t.Logf("the end of metrics-server's log:\n%s", log[max(0, len(log)-metricsLog):])
		}
		assert.NoError(t, process.Stop(context.Background(), metricsGrace))
	})
	w.given(t, "metrics-api.yaml", "ADDRESS", metricsAddress, "PORT", strconv.Itoa(metricsPort), "CABUNDLE", base64.StdEncoding.EncodeToString(ca))
	eventually(t, "the API server reaches metrics-server, or that has ended", func() bool {
		out, err := w.administers(t.Context(), "get", "apiservice", "v1beta1.metrics.k8s.io", "-o", `jsonpath={.status.conditions[?(@.type=="Available")].status}`)
		return !process.Alive() || err == nil && out == "True"
	})
	require.True(t, process.Alive(), "metrics-server runs")
}

// shows waits until kubectl prints something like this, and returns all of it. Figures come late, and a busy machine may leave
// some out for a moment.
func (p person) shows(t *testing.T, pattern string, args ...string) string {
	t.Helper()
	var out string
	var err error
	like := regexp.MustCompile(pattern)
	if !assert.Eventually(t, func() bool {
		out, err = p.tries(t, args...)
		return err == nil && like.MatchString(out)
	}, figuresCome, 4*interval, "kubectl %v", args) {
		require.Regexp(t, like, out, "kubectl %v: %v", args, err)
	}
	return out
}

// settles waits until kubectl ends as it is to, and returns what it prints. On a busy machine the API server takes
// metrics-server for gone for a moment, and kubectl says so instead. No answer on the way may show what is another's.
func (p person) settles(t *testing.T, what string, done func(out string, err error) bool, args ...string) string {
	t.Helper()
	var out string
	var err error
	if !assert.Eventually(t, func() bool {
		out, err = p.tries(t, args...)
		return done(out, err)
	}, patience, 4*interval, what) {
		require.FailNow(t, what, "kubectl %v: %v: %s", args, err, out)
	}
	return out
}

// tops looks at what pods use: everybody sees what his own do.
func tops(t *testing.T, me person) {
	bob := me.bob.proxied()
	const figures = ` +\d+m +\d+Mi`
	me.shows(t, `^NAME .*\np-a`+figures+` *\n$`, "top", "pod", "p-a")
	assert.NotContains(t, me.shows(t, `(?m)^p-a`+figures, "top", "pods"), "p-b")
	assert.NotContains(t, bob.shows(t, `(?m)^p-b`+figures, "top", "pods"), "p-a")
	me.shows(t, `^p-a +main`+figures+` *\n$`, "top", "pods", "--containers", "--no-headers", "-l", "app=web-a")

	for name, one := range map[string]struct {
		args []string
		says string
	}{
		"Bob's pod":           {[]string{"top", "pod", "p-b"}, "NotFound"},
		"by Bob's label":      {[]string{"top", "pods", "-l", ownerKey + "=" + me.bob.id}, "mt: select what is yours"},
		"of all namespaces":   {[]string{"top", "pods", "-A"}, "Forbidden"},
		"nodes":               {[]string{"top", "nodes"}, "mt: "},
		"a node of one's own": {[]string{"top", "node", aliceNode}, "mt: "},
	} {
		me.settles(t, name, func(out string, err error) bool { return err != nil && strings.Contains(out, one.says) }, one.args...)
	}
	out := me.settles(t, "by another label of Bob's", func(_ string, err error) bool { return err == nil }, "top", "pods", "-l", "app=web-b")
	assert.NotContains(t, out, "p-b")

	// Without the proxy the selector has to be given, and metrics-server heeds it.
	direct := me.alice
	direct.denied(t, selectYours+direct.id, http.MethodGet, metricsPath, "")
	direct.denied(t, selectYours+direct.id, http.MethodGet, metricsPath+"?labelSelector="+me.bob.own(), "")
	direct.denied(t, notYours, http.MethodGet, metricsPath+"/p-b", "")
	for _, one := range []struct {
		who  person
		path string
	}{{direct, metricsPath + "?labelSelector=" + direct.own()}, {me, metricsPath}, {bob, metricsPath}} {
		eventually(t, one.who.name+" has figures", func() bool {
			got, err := one.who.try(t.Context(), http.MethodGet, one.path, "")
			return err == nil && len(got.items(t)) > 0
		})
		onlyOwn(t, one.who, one.path)
	}
	assert.Equal(t, me.id, direct.gets(t, metricsPath+"/p-a").object.GetLabels()[ownerKey])
}

// autoscales has a pod that is never idle get another beside it.
func autoscales(t *testing.T, me person) {
	name := unique("life-autoscaled")
	file := me.has(t, "autoscaled.yaml", "NAME", name)
	me.kubectl(t, "rollout", "status", "deployment/"+name)
	path := "jsonpath={.status.currentMetrics[0].resource.current.averageUtilization}"
	used := 0
	require.Eventually(t, func() bool {
		out, err := me.tries(t, "get", "hpa", name, "-o", path)
		if err == nil {
			used, err = strconv.Atoi(out)
		}
		return err == nil && used > 50
	}, figuresCome, 4*interval, "the autoscaler knows what the pod uses")
	me.shows(t, `(?m)^`+name+`\S+ +[1-9]\d*m +\d+Mi`, "top", "pods", "-l", "app="+name)
	me.says(t, "2", "get", "deployment", name, "-o", "jsonpath={.spec.replicas}")
	me.kubectl(t, "rollout", "status", "deployment/"+name)
	assert.Equal(t, []string{aliceNode, aliceNode}, me.where(t, "app="+name, 2))
	me.shows(t, name+` +Deployment/`+name+` +cpu: \d+%/50% +1 +2 +2`, "get", "hpa", name)
	assert.Contains(t, me.kubectl(t, "describe", "hpa", name), "SuccessfulRescale")
	me.kubectl(t, "delete", "-f", file)
}
