// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/api"
)

const (
	both = "11111111-1111-4111-8111-111111111111"
	mine = "22222222-2222-4222-8222-222222222222"
	late = "33333333-3333-4333-8333-333333333333"
	last = "44444444-4444-4444-8444-444444444444"
)

// intruder is a client whose user has rights elsewhere only.
const intruder = `  intruder:
    namespace: {mode: fixed, fixed: naples}
    impersonate: {user: "system:serviceaccount:bari:interlink-af-bari"}
  nobody:
    namespace: {mode: fixed, fixed: naples}
    impersonate: {user: "system:serviceaccount:naples:default"}
  unfinished:
    namespace: {mode: fixed, fixed: naples}
    kubeconfig: LATER
  outdated:
    namespace: {mode: fixed, fixed: naples}
    kubeconfig: OUTDATED
`

// TestTwoClients runs the program with the configuration and the rights in deploy/ for two remote clusters whose pods have
// the same names, namespaces, clusters and even UIDs.
func TestTwoClients(t *testing.T) {
	t.Parallel()
	s := startSite(t, intruder)
	t.Run("who is not listed is refused", s.refusesStrangers)
	t.Run("twins never meet", s.keepsTwinsApart)
	t.Run("nobody reaches another's pods", s.keepsStrangersOut)
	t.Run("a share is the client's own", s.keepsShares)
	t.Run("a caller cannot choose his name", s.takesNamesFromTheAPI)
	t.Run("rights are those of the impersonated user", s.hasTheUsersRights)
	require.NoError(t, s.process.End(syscall.SIGTERM), s.process)
	said := s.process.String()
	assert.NotContains(t, said, "panic")
	for _, secret := range s.secrets {
		assert.NotContains(t, said, secret)
	}
}

func (s *site) refusesStrangers(t *testing.T) {
	for _, stranger := range []string{"", "mallory", "*"} {
		for _, path := range []string{interlink.PathStatus, interlink.PathCreate, interlink.PathWatch} {
			code, text := s.ask(stranger, path, []corev1.Pod{})
			assert.Equal(t, http.StatusForbidden, code, path)
			assert.Contains(t, text, "the site does not know the client")
		}
	}
	assert.Contains(t, s.operations("/metrics"), "caas_sidecar_unknown_clients_total 9\n")
}

func (s *site) keepsTwinsApart(t *testing.T) {
	pod := twin(both)
	theirs, ours := s.create(naples, pod), s.create(bari, pod)
	assert.True(t, strings.HasPrefix(theirs, "naples/"), theirs)
	assert.True(t, strings.HasPrefix(ours, "bari/"), ours)
	assert.Equal(t, theirs, s.create(naples, pod), "the same job again")

	running := s.pods("naples")[both]
	running.Status = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
	}}}
	_, err := s.admin.CoreV1().Pods("naples").UpdateStatus(t.Context(), &running, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.status(naples, pod).Containers[0].State.Running != nil }, 30*time.Second, 50*time.Millisecond)
	assert.NotNil(t, s.status(bari, pod).Containers[0].State.Waiting)

	for client, namespace := range map[string]string{naples: "naples", bari: "bari"} {
		var seen []string
		for _, event := range s.told(client) {
			if event.Type == interlink.EventStatus {
				seen = append(seen, event.Status.Detail.RemoteNamespace)
			}
		}
		assert.Equal(t, []string{namespace}, seen, client)
	}

	changed := pod.DeepCopy()
	changed.Annotations["note"] = "ours"
	code, text := s.ask(bari, interlink.PodUpdatePath(both), interlink.CreateRequest{Pod: *changed})
	require.Equal(t, http.StatusOK, code, text)
	assert.Equal(t, "ours", s.pods("bari")[both].Annotations["note"])
	assert.NotContains(t, s.pods("naples")[both].Annotations, "note")

	require.Equal(t, http.StatusOK, s.answers(bari, interlink.PathDelete, pod))
	require.Eventually(t, func() bool { return len(s.pods("bari")) == 0 }, 30*time.Second, 50*time.Millisecond)
	assert.Nil(t, s.pods("naples")[both].DeletionTimestamp)
	assert.Equal(t, http.StatusConflict, s.answers(bari, interlink.PathCreate, interlink.PluginPod{Pod: *pod}), "deleted here")
	assert.Equal(t, theirs, s.create(naples, pod), "and not there")
}

func (s *site) keepsStrangersOut(t *testing.T) {
	pod := twin(mine)
	s.create(naples, pod)
	assert.Equal(t, "PodNotCreated", s.status(bari, pod).Containers[0].State.Waiting.Reason)
	log := interlink.LogRequest{PodUID: mine, Namespace: "physics", PodName: "worker", ContainerName: "main"}
	assert.Equal(t, http.StatusNotFound, s.answers(bari, interlink.PathLogs, log))
	assert.NotEqual(t, http.StatusNotFound, s.answers(naples, interlink.PathLogs, log), "its own: there is only no kubelet")
	assert.Equal(t, http.StatusNotFound, s.answers(bari, interlink.PodUpdatePath(mine), interlink.CreateRequest{Pod: *pod}))
	debugged := pod.DeepCopy()
	debugged.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "d", Image: "example.org/d:1"}}}
	assert.Equal(t, http.StatusNotFound, s.answers(bari, interlink.EphemeralPath(mine), debugged))
	for client, want := range map[string]int{bari: http.StatusNotFound, naples: http.StatusBadRequest} { // it runs nowhere yet
		assert.Equal(t, want, s.upgrade(client, interlink.PodStreamPath(mine, interlink.StreamExec)+"?command=id&stdout=true"), client)
	}
	assert.Equal(t, http.StatusOK, s.answers(bari, interlink.PathDelete, pod), "of a pod that it never had")
	assert.Nil(t, s.pods("naples")[mine].DeletionTimestamp)
}

func (s *site) keepsShares(t *testing.T) {
	pod := twin(late)
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
	code, text := s.ask(bari, interlink.PathCreate, interlink.PluginPod{Pod: *pod})
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Contains(t, text, "nvidia.com/gpu: requested 1, used 0, share 0")
	s.create(naples, pod)
	metrics := s.operations("/metrics")
	for _, want := range []string{
		`caas_sidecar_creates_total{client="af-bari",outcome="share"} 1`, `caas_sidecar_pods{client="af-naples"} 3`,
		`caas_sidecar_share{client="af-naples",resource="nvidia.com/gpu"} 4`, `caas_sidecar_share_used{client="af-naples",resource="nvidia.com/gpu"} 1`,
		`caas_sidecar_client_ready{client="af-bari"} 1`, `caas_sidecar_client_ready{client="intruder"} 0`,
		`caas_http_request_duration_seconds_count{client="af-bari",code="503",method="POST",route="/create",server="plugin"} 1`,
	} {
		assert.Contains(t, metrics, want+"\n")
	}
	// Nodes are not seen with these rights: the share is what there is.
	code, text = s.ask(bari, interlink.PathStatus, []corev1.Pod{})
	require.Equal(t, http.StatusOK, code)
	assert.Contains(t, text, `"cpu":"16"`)
}

// takesNamesFromTheAPI goes through an interLink API, whose callers say who they are by a token, and claim to be others.
func (s *site) takesNamesFromTheAPI(t *testing.T) {
	gateway, err := api.New(api.Config{PluginURL: "unix://" + s.socket, Authenticate: func(r *http.Request) (string, error) {
		return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer token-of-"), nil
	}})
	require.NoError(t, err)
	t.Cleanup(gateway.Close)
	server := httpserver.Config{Address: "127.0.0.1:0", Handler: gateway.Handler()}
	url := serveUntilEnd(t, server)
	call := func(caller, method, path, body string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer token-of-"+caller)
		request.Header.Set(interlink.HeaderClient, naples)
		request.Header.Set(interlink.HeaderProbe, "true")
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
		require.NoError(t, err)
		defer func() { _ = answer.Body.Close() }()
		text := make([]byte, 4096)
		n, _ := answer.Body.Read(text)
		return answer.StatusCode, string(text[:n])
	}
	code, text := call(naples, http.MethodPost, interlink.PathPing, "")
	assert.Equal(t, http.StatusOK, code, text)
	code, text = call("mallory", http.MethodPost, interlink.PathPing, "")
	assert.Equal(t, http.StatusForbidden, code, text)
	assert.Contains(t, text, `does not know the client "mallory"`, "the virtual node shows it")
	code, _ = call("mallory", http.MethodGet, interlink.PathWatch, "")
	assert.Equal(t, http.StatusForbidden, code)
	code, _ = call(bari, http.MethodDelete, interlink.PathDelete, `{"metadata":{"name":"worker","namespace":"physics","uid":"`+mine+`"}}`)
	assert.Equal(t, http.StatusOK, code)
	assert.Nil(t, s.pods("naples")[mine].DeletionTimestamp, "he claimed to be af-naples")
	require.NoError(t, gateway.Ready(t.Context()), "the API's own probe is nobody's")
}

func (s *site) hasTheUsersRights(t *testing.T) {
	for client, want := range map[string]string{
		"intruder":   `may not create pods in namespace "naples"`, // who has rights in bari
		"nobody":     "does not let the sidecar impersonate",      // whom the sidecar may not be
		"unfinished": "cannot be used; its log says why",
		"outdated":   "does not accept the sidecar's credentials",
	} {
		code, text := s.ask(client, interlink.PathStatus, []corev1.Pod{})
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Contains(t, text, want)
		assert.NotEqual(t, http.StatusOK, s.answers(client, interlink.PathCreate, interlink.PluginPod{Pod: *twin(both)}))
	}
	said := s.operations("/readyz")
	assert.True(t, strings.HasPrefix(said, "ok\n"), said)
	assert.Contains(t, said, `but: client "intruder": `)
	assert.NotContains(t, said, bari)

	require.NoError(t, s.admin.RbacV1().RoleBindings("bari").Delete(t.Context(), "interlink-sidecar-is-af-bari", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { return strings.Contains(s.operations("/readyz"), `but: client "af-bari"`) }, time.Minute, 200*time.Millisecond)
	assert.Equal(t, http.StatusServiceUnavailable, s.answers(bari, interlink.PathCreate, interlink.PluginPod{Pod: *twin(last)}))
	assert.Equal(t, http.StatusOK, s.answers(naples, interlink.PathStatus, []corev1.Pod{}), "the other goes on")

	written, err := os.ReadFile(s.cluster.Kubeconfig("system:serviceaccount:naples:interlink-af-naples"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.later, written, 0o600))
	require.Eventually(t, func() bool { return s.answers("unfinished", interlink.PathStatus, []corev1.Pod{}) == http.StatusOK },
		time.Minute, 200*time.Millisecond, "a kubeconfig that comes later is found")
	assert.Contains(t, s.create("unfinished", twin(both)), "naples/", "the same pod in the same namespace, and it is another one")
	assert.Len(t, s.told("unfinished"), 2, "the node and its own pod")
}
