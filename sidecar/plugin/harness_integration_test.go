// SPDX-License-Identifier: Apache-2.0

//go:build integration

package plugin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

var shared = kubetest.NewShared(kubetest.Options{ControllerManager: true, Scheduler: true})

func TestMain(m *testing.M) { shared.Main(m) }

// recorder counts requests to the target cluster and makes chosen ones fail.
type recorder struct {
	next http.RoundTripper

	mu sync.Mutex
	// fault returns an error instead of, or (after) behind, the real answer.
	fault func(*http.Request) (err error, after bool)
	seen  []string
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	// Questions about rights are asked at the start, whenever the API server answers them.
	if !strings.Contains(request.URL.RawQuery, "watch=") && !strings.Contains(request.URL.Path, "/authorization.k8s.io/") {
		r.seen = append(r.seen, request.Method+" "+request.URL.Path)
	}
	fault := r.fault
	r.mu.Unlock()
	var err error
	var after bool
	if fault != nil {
		err, after = fault(request)
	}
	if err != nil && !after {
		return nil, err
	}
	answer, realErr := r.next.RoundTrip(request)
	if err != nil {
		if realErr == nil {
			_ = answer.Body.Close()
		}
		return nil, err
	}
	return answer, realErr
}

func (r *recorder) setFault(fault func(*http.Request) (error, bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = nil
}

func (r *recorder) requests(prefix string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []string
	for _, entry := range r.seen {
		if strings.HasPrefix(entry, prefix) {
			found = append(found, entry)
		}
	}
	return found
}

// caused are the requests without those of a plugin that has just started: what it may watch, and the first lists of that.
func (r *recorder) caused() []string {
	return slices.DeleteFunc(r.requests(""), func(entry string) bool {
		method, path, _ := strings.Cut(entry, " ")
		lists := slices.Contains([]string{"nodes", "pods", "resourcequotas", "events"}, path[strings.LastIndexByte(path, '/')+1:])
		return strings.HasPrefix(path, "/apis/authorization.k8s.io/") || method == http.MethodGet && lists
	})
}

// sidecar is one running plugin on a namespace of its own.
type sidecar struct {
	t         testing.TB
	url       string
	namespace string
	admin     kubernetes.Interface
	recorder  *recorder
	registry  *prometheus.Registry
}

var namespaces atomic.Int32

// start runs a plugin over HTTP; change may be nil.
func start(tb testing.TB, change func(*plugin.Settings)) *sidecar {
	tb.Helper()
	cluster := shared.Cluster(tb)
	admin := cluster.Client()
	namespace := fmt.Sprintf("test-%d", namespaces.Add(1))
	_, err := admin.CoreV1().Namespaces().Create(tb.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	require.NoError(tb, err)
	waitForDefaultAccount(tb, admin, namespace)
	return startIn(tb, admin, namespace, change)
}

// waitForDefaultAccount waits for what pods of a new namespace need.
func waitForDefaultAccount(tb testing.TB, admin kubernetes.Interface, namespace string) {
	tb.Helper()
	require.Eventually(tb, func() bool {
		_, err := admin.CoreV1().ServiceAccounts(namespace).Get(tb.Context(), "default", metav1.GetOptions{})
		return err == nil
	}, 30*time.Second, 50*time.Millisecond, "the default ServiceAccount appears")
}

// startIn runs a (further) plugin on a namespace.
func startIn(tb testing.TB, admin kubernetes.Interface, namespace string, change func(*plugin.Settings)) *sidecar {
	tb.Helper()
	return startAs(tb, admin, namespace, "", change)
}

// startAs runs a plugin with the rights of a user; "" is the administrator.
func startAs(tb testing.TB, admin kubernetes.Interface, namespace, user string, change func(*plugin.Settings)) *sidecar {
	tb.Helper()
	s := &sidecar{t: tb, namespace: namespace, admin: admin, recorder: &recorder{}, registry: prometheus.NewRegistry()}
	config := shared.Cluster(tb).RESTConfig()
	config.Impersonate.UserName = user
	if user != "" {
		config.Impersonate.Groups = []string{"system:authenticated"}
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		s.recorder.next = next
		return s.recorder
	})
	client, err := kubernetes.NewForConfig(config)
	require.NoError(tb, err)
	settings := plugin.Settings{Namespace: plugin.NamespaceRule{Mode: plugin.NamespaceFixed, Fixed: namespace}}
	if change != nil {
		change(&settings)
	}
	p, err := plugin.New(plugin.Config{Client: client, Settings: settings, Registry: s.registry, ClaimPeriod: 200 * time.Millisecond})
	require.NoError(tb, err)
	server, err := httpserver.New(httpserver.Config{Address: "127.0.0.1:0", Handler: p.Handler(), GracePeriod: time.Second})
	require.NoError(tb, err)
	s.url = "http://" + server.Addr().String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	running.Go(func() { _ = server.Run(ctx) })
	tb.Cleanup(func() {
		cancel()
		running.Wait()
	})
	require.Eventually(tb, func() bool {
		code, _, _ := s.call(http.MethodGet, interlink.PathStatus, []corev1.Pod{}, nil)
		return code == http.StatusOK
	}, 30*time.Second, 20*time.Millisecond, "the ping is answered")
	return s
}

// call sends a request and returns status code, body and header.
func (s *sidecar) call(method, path string, message any, header map[string]string) (int, string, http.Header) {
	s.t.Helper()
	encoded, err := json.Marshal(message)
	require.NoError(s.t, err)
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, bytes.NewReader(encoded))
	require.NoError(s.t, err)
	for key, value := range header {
		request.Header.Set(key, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(s.t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return response.StatusCode, string(body), response.Header
}

// answersSoon sends /create and returns the status code, or 0 when there is no
// answer in a moment.
func (s *sidecar) answersSoon(message *interlink.PluginPod) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 200*time.Millisecond)
	defer cancel()
	encoded, err := json.Marshal(message)
	require.NoError(s.t, err)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+interlink.PathCreate, bytes.NewReader(encoded))
	require.NoError(s.t, err)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// create sends /create and returns the job id.
func (s *sidecar) create(request *interlink.PluginPod) string {
	s.t.Helper()
	code, body, _ := s.call(http.MethodPost, interlink.PathCreate, request, nil)
	require.Equal(s.t, http.StatusOK, code, body)
	var created interlink.Created
	require.NoError(s.t, json.Unmarshal([]byte(body), &created))
	require.Equal(s.t, string(request.Pod.UID), created.PodUID)
	return created.PodJID
}

func (s *sidecar) delete(pod *corev1.Pod) {
	s.t.Helper()
	code, body, _ := s.call(http.MethodPost, interlink.PathDelete, pod, nil)
	require.Equal(s.t, http.StatusOK, code, body)
}

func (s *sidecar) statuses(pods ...corev1.Pod) []interlink.PodStatus {
	s.t.Helper()
	code, body, _ := s.call(http.MethodGet, interlink.PathStatus, pods, nil)
	require.Equal(s.t, http.StatusOK, code, body)
	var statuses []interlink.PodStatus
	require.NoError(s.t, json.Unmarshal([]byte(body), &statuses))
	require.Len(s.t, statuses, len(pods))
	return statuses
}

// metric returns the value of a gauge or counter without labels.
func (s *sidecar) metric(name string) float64 {
	s.t.Helper()
	families, err := s.registry.Gather()
	require.NoError(s.t, err)
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue() + family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	require.FailNow(s.t, "no such metric", name)
	return 0
}

// pods returns the created pods of an origin's pod.
func (s *sidecar) pods(uid types.UID) []corev1.Pod {
	s.t.Helper()
	list, err := s.admin.CoreV1().Pods(s.namespace).List(s.t.Context(), metav1.ListOptions{LabelSelector: translate.LabelUID + "=" + string(uid)})
	require.NoError(s.t, err)
	return list.Items
}

// setStatus plays the kubelet, beside the scheduler.
func (s *sidecar) setStatus(uid types.UID, status corev1.PodStatus) {
	s.t.Helper()
	require.NoError(s.t, retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		pods := s.pods(uid)
		require.Len(s.t, pods, 1)
		pods[0].Status = status
		_, err := s.admin.CoreV1().Pods(s.namespace).UpdateStatus(s.t.Context(), &pods[0], metav1.UpdateOptions{})
		return err
	}))
}

// originPod is a pod as an origin sends it, without any object.
func originPod(name string) *interlink.PluginPod {
	return &interlink.PluginPod{Pod: corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "physics", UID: uuid.NewUUID(),
			Annotations: map[string]string{interlink.AnnotationOriginCluster: "c1", interlink.AnnotationOriginNode: "vk1"},
		},
		Spec: corev1.PodSpec{
			NodeName: "vk1", RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{Name: "main", Image: "example.org/main:1"}},
		},
	}}
}

// withObjects adds a ConfigMap, a Secret and the origin's token.
func withObjects(request *interlink.PluginPod) *interlink.PluginPod {
	spec := &request.Pod.Spec
	spec.Volumes = []corev1.Volume{
		{Name: "cfg", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}},
		{Name: "key", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "key"}}},
		{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}},
		}}},
	}
	spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
		{Name: "cfg", MountPath: "/cfg"},
		{Name: "key", MountPath: "/key"},
		{Name: "kube-api-access", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"},
	}
	request.Containers = []interlink.PluginContainer{{
		Name:             "main",
		ConfigMaps:       []corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: "settings", Namespace: "physics"}, Data: map[string]string{"a": "1"}, BinaryData: map[string][]byte{"b": {0xff, 0}}}},
		Secrets:          []corev1.Secret{{ObjectMeta: metav1.ObjectMeta{Name: "key", Namespace: "physics"}, Data: map[string][]byte{"k": []byte("s3cret")}}},
		ProjectedVolumes: []corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: "kube-api-access"}, Data: map[string]string{"token": "origin-token"}}},
	}}
	return request
}
