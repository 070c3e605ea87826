// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/programtest"
	"github.com/cloudveneto/caas/internal/telemetry/telemetrytest"
)

// line stands between two programs and keeps the headers of creates.
type line struct {
	URL string

	mu      sync.Mutex
	creates []http.Header
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	l := &line{}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: to})
	}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { // it has not started yet
		http.Error(w, err.Error(), http.StatusBadGateway)
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == interlink.PathCreate {
			l.mu.Lock()
			l.creates = append(l.creates, r.Header.Clone())
			l.mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	l.URL = server.URL
	return l
}

// create is the header of the create that was taken; any before it came too early.
func (l *line) create(t *testing.T) http.Header {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	require.NotEmpty(t, l.creates)
	return l.creates[len(l.creates)-1]
}

// traced are the three programs in front of a cluster that is both ends, all of which tell one collector.
type traced struct {
	admin           *kubernetes.Clientset
	collector       *telemetrytest.Collector
	toAPI, toPlugin *line
	kubelet         *program
	// ops are where each program serves its metrics.
	ops map[string]string
}

func startTraced(t *testing.T) *traced {
	t.Helper()
	collector := telemetrytest.Start(t)
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + collector.Address(), "OTEL_BSP_SCHEDULE_DELAY": "100", "TELEMETRY_ENDPOINT": "",
	} {
		t.Setenv(name, value)
	}
	tracing := filepath.Join(t.TempDir(), "tracing.yaml")
	require.NoError(t, os.WriteFile(tracing, fmt.Appendf(nil,
		"apiVersion: apiserver.config.k8s.io/v1beta1\nkind: TracingConfiguration\nendpoint: %s\nsamplingRatePerMillion: 0\n", collector.Address()), 0o600))
	cluster := kubetest.Start(t, kubetest.Options{ControllerManager: true, APIServerArgs: []string{"--tracing-config-file=" + tracing}})
	c := &traced{admin: cluster.Client(), collector: collector}
	_, err := c.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, namespace := range []string{"default", "cms"} {
		require.Eventually(t, func() bool {
			_, err := c.admin.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "default", metav1.GetOptions{})
			return err == nil
		}, patience, 50*time.Millisecond)
	}

	plugin, middle := programtest.FreeAddress(t), programtest.FreeAddress(t)
	c.toAPI, c.toPlugin = newLine(t, middle), newLine(t, plugin)
	c.ops = map[string]string{"interlink-sidecar": programtest.FreeAddress(t), "interlink-api": programtest.FreeAddress(t)}
	start := func(name string, args ...string) *programtest.Process {
		program := &programtest.Binary{Name: name}
		t.Cleanup(program.Remove)
		return programtest.Start(t, program.Command(t, args...))
	}
	start("interlink-sidecar", "--kubeconfig", cluster.AdminKubeconfig(), "--namespace", "cms", "--listen", plugin, "--ops-listen", c.ops["interlink-sidecar"])
	config := filepath.Join(t.TempDir(), "api.yaml")
	host, port, _ := strings.Cut(middle, ":")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "InterlinkAddress: http://%s\nInterlinkPort: %q\nSidecarURL: %s\nOpsAddress: %s\n",
		host, port, c.toPlugin.URL, c.ops["interlink-api"]), 0o600))
	start("interlink-api", "--config", config)
	kubelet := newProgram(t, cluster.AdminKubeconfig(), c.toAPI.URL, "")
	kubelet.start()
	c.kubelet, c.ops["virtual-kubelet"] = kubelet, kubelet.ops
	return c
}

// TestOneTraceThroughAllPrograms creates a pod through the three real programs. What each of them, and the API server, did
// for it is one trace; upstream's session header comes to the plugin as the virtual kubelet wrote it; and each program has
// the metrics of its hop, of the types and with the labels that the page about metrics says.
func TestOneTraceThroughAllPrograms(t *testing.T) {
	c := startTraced(t)
	pod, err := c.admin.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "traced"},
		Spec: corev1.PodSpec{
			NodeName: "caas-0", AutomountServiceAccountToken: new(false), Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{Name: "main", Image: "busybox"}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)

	way := []string{
		"apiserver Create", "interlink-sidecar HTTP POST", "interlink-sidecar plugin /create", "interlink-api HTTP POST",
		"interlink-api " + "interlink-api /create", "virtual-kubelet HTTP POST", "virtual-kubelet create pod",
	}
	var root telemetrytest.Span
	var came []string
	require.Eventually(t, func() bool {
		came, root = c.wayBack("/api/v1/namespaces/cms/pods")
		return len(came) == len(way)
	}, patience, 50*time.Millisecond, "%v", &came)
	assert.Equal(t, way[1:], came[1:])
	assert.Regexp(t, "^apiserver ", came[0], "the API server's own span")
	assert.Empty(t, root.GetParentSpanId())
	assert.Equal(t, string(pod.UID), root.Attribute("k8s.pod.uid"))

	trace := hex.EncodeToString(root.GetTraceId())
	first, second := c.toAPI.create(t), c.toPlugin.create(t)
	assert.Contains(t, first.Get("Traceparent"), trace)
	assert.Contains(t, second.Get("Traceparent"), trace)
	assert.Regexp(t, `^CreatePod#\d+$`, first.Get(interlink.HeaderSession))
	assert.Equal(t, first.Values(interlink.HeaderSession), second.Values(interlink.HeaderSession))

	for program, series := range map[string]string{
		"virtual-kubelet":   `caas_hop_duration_seconds_count{code="200",operation="create",to="far-end"} 1`,
		"interlink-api":     `caas_hop_duration_seconds_count{code="200",operation="create",to="plugin"} 1`,
		"interlink-sidecar": `caas_hop_duration_seconds_count{code="201",operation="create pods",to="target"} 1`,
	} {
		code, text := ask(t, "http://"+c.ops[program]+"/metrics")
		require.Equal(t, http.StatusOK, code)
		assert.Contains(t, text, "\n"+series+"\n", program)
		programtest.CheckExposition(t, program, text)
	}
	require.NoError(t, c.kubelet.end(syscall.SIGTERM))
}

// wayBack follows a create of a pod at the API server back to where its trace began.
func (c *traced) wayBack(path string) (way []string, root telemetrytest.Span) {
	spans := c.collector.Spans()
	byID := map[string]telemetrytest.Span{}
	for _, span := range spans {
		byID[string(span.GetTraceId())+string(span.GetSpanId())] = span
	}
	for _, span := range spans {
		parent, known := byID[string(span.GetTraceId())+string(span.GetParentSpanId())]
		if span.Service != "apiserver" || !known || parent.Service != "interlink-sidecar" || !strings.HasSuffix(parent.Attribute("url.full"), path) {
			continue
		}
		way = nil
		for known = true; known; span, known = byID[string(span.GetTraceId())+string(span.GetParentSpanId())] {
			way, root = append(way, span.Service+" "+span.GetName()), span
		}
	}
	return way, root
}
