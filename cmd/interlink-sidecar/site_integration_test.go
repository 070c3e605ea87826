// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/programtest"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

const (
	naples = "af-naples"
	bari   = "af-bari"
	// robot is the sidecar's own user.
	robot = "system:serviceaccount:interlink:interlink-sidecar"
)

// site is one whose sidecar serves two clients, as deploy/ has it.
type site struct {
	t       *testing.T
	admin   *kubernetes.Clientset
	socket  string
	ops     string
	client  *http.Client
	process *programtest.Process
	secrets []string
	cluster *kubetest.Cluster
	// later is where a kubeconfig is missing.
	later string
}

// startSite runs the sidecar with what deploy/ has, and with more clients.
func startSite(t *testing.T, more string) *site {
	t.Helper()
	cluster := kubetest.Start(t, kubetest.Options{ControllerManager: true})
	s := &site{t: t, admin: cluster.Client(), socket: filepath.Join(t.TempDir(), "plugin.sock"), ops: programtest.FreeAddress(t), cluster: cluster, later: filepath.Join(t.TempDir(), "kubeconfig")}
	for _, name := range []string{"interlink", "naples", "bari"} {
		_, err := s.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	s.apply("../../deploy/interlink-sidecar/rbac-clients.yaml")
	for _, name := range []string{"naples", "bari"} {
		require.Eventually(t, func() bool {
			_, err := s.admin.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
			return err == nil
		}, 30*time.Second, 50*time.Millisecond)
	}
	content, err := os.ReadFile("../../deploy/interlink-sidecar/clients.yaml")
	require.NoError(t, err)
	kubeconfig := cluster.Kubeconfig(robot)
	written, err := os.ReadFile(kubeconfig)
	require.NoError(t, err)
	for _, secret := range regexp.MustCompile(`client-(?:key|certificate)-data: (\S+)`).FindAllSubmatch(written, -1) {
		s.secrets = append(s.secrets, string(secret[1]))
	}
	require.NotEmpty(t, s.secrets)
	outdated := withOtherToken(t, kubeconfig)
	file := filepath.Join(t.TempDir(), "sidecar.yaml")
	text := strings.NewReplacer(
		"unix:///run/interlink/plugin.sock", "unix://"+s.socket, "127.0.0.1:9091", s.ops, "/etc/interlink/kubeconfig", kubeconfig,
	).Replace(string(content)) + strings.NewReplacer("LATER", s.later, "OUTDATED", outdated).Replace(more)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	s.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
	}}}
	s.process = programtest.Start(t, binary.Command(t, "--config", file, "--log-level", "debug"))
	for _, client := range []string{naples, bari} {
		require.Eventually(t, func() bool { return s.answers(client, interlink.PathStatus, []corev1.Pod{}) == http.StatusOK },
			30*time.Second, 50*time.Millisecond, s.process)
	}
	return s
}

// withOtherToken copies a kubeconfig with a credential that its cluster does not know.
func withOtherToken(t *testing.T, kubeconfig string) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(kubeconfig)
	require.NoError(t, err)
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: "outdated"}
	}
	path := filepath.Join(t.TempDir(), "outdated")
	require.NoError(t, clientcmd.WriteToFile(*config, path))
	return path
}

// apply creates the objects of a manifest.
func (s *site) apply(path string) {
	s.t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(s.t, err)
	for document := range bytes.SplitSeq(content, []byte("\n---\n")) {
		decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(document, nil, nil)
		require.NoError(s.t, err)
		switch object := decoded.(type) {
		case *corev1.ServiceAccount:
			_, err = s.admin.CoreV1().ServiceAccounts(object.Namespace).Create(s.t.Context(), object, metav1.CreateOptions{})
		case *rbacv1.Role:
			_, err = s.admin.RbacV1().Roles(object.Namespace).Create(s.t.Context(), object, metav1.CreateOptions{})
		case *rbacv1.RoleBinding:
			_, err = s.admin.RbacV1().RoleBindings(object.Namespace).Create(s.t.Context(), object, metav1.CreateOptions{})
		default:
			require.FailNow(s.t, "unexpected object", "%T", decoded)
		}
		require.NoError(s.t, err)
	}
}

// ask sends what a client asks, "" for nobody.
func (s *site) ask(client, path string, message any) (int, string) {
	s.t.Helper()
	encoded, err := json.Marshal(message)
	require.NoError(s.t, err)
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://unix"+path, bytes.NewReader(encoded))
	require.NoError(s.t, err)
	if client != "" {
		request.Header.Set(interlink.HeaderClient, client)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	return answer.StatusCode, string(text)
}

func (s *site) answers(client, path string, message any) int {
	s.t.Helper()
	code, _ := s.ask(client, path, message)
	return code
}

func (s *site) operations(path string) string {
	s.t.Helper()
	_, text := answer(s.t, &http.Client{Timeout: 20 * time.Second}, http.MethodGet, "http://"+s.ops+path, "")
	return text
}

// create returns the job of a pod that is created.
func (s *site) create(client string, pod *corev1.Pod) string {
	s.t.Helper()
	code, text := s.ask(client, interlink.PathCreate, interlink.PluginPod{Pod: *pod})
	require.Equal(s.t, http.StatusOK, code, text)
	var created interlink.Created
	require.NoError(s.t, json.Unmarshal([]byte(text), &created))
	return created.PodJID
}

func (s *site) status(client string, pod *corev1.Pod) interlink.PodStatus {
	s.t.Helper()
	code, text := s.ask(client, interlink.PathStatus, []corev1.Pod{*pod})
	require.Equal(s.t, http.StatusOK, code, text)
	var statuses []interlink.PodStatus
	require.NoError(s.t, json.Unmarshal([]byte(text), &statuses))
	require.Len(s.t, statuses, 1)
	return statuses[0]
}

// told is what a client's status stream says at its beginning.
func (s *site) told(client string) []interlink.StatusEvent {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://unix"+interlink.PathWatch+"?cluster=c1&node=vk1", http.NoBody)
	require.NoError(s.t, err)
	request.Header.Set(interlink.HeaderClient, client)
	answer, err := s.client.Do(request)
	require.NoError(s.t, err)
	defer func() { _ = answer.Body.Close() }()
	require.Equal(s.t, http.StatusOK, answer.StatusCode)
	var events []interlink.StatusEvent
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		var event interlink.StatusEvent
		require.NoError(s.t, json.Unmarshal(lines.Bytes(), &event))
		if event.Type == interlink.EventSynced {
			return events
		}
		events = append(events, event)
	}
	require.NoError(s.t, lines.Err())
	return nil
}

// pods are the created pods of a namespace by their UID at the origin.
func (s *site) pods(namespace string) map[string]corev1.Pod {
	s.t.Helper()
	list, err := s.admin.CoreV1().Pods(namespace).List(s.t.Context(), metav1.ListOptions{})
	require.NoError(s.t, err)
	found := map[string]corev1.Pod{}
	for _, pod := range list.Items {
		found[pod.Labels[translate.LabelUID]] = pod
	}
	return found
}

// twin is the same pod at every origin: clusters of one name, namespaces, names and UIDs all alike.
func twin(uid string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "worker", Namespace: "physics", UID: types.UID(uid),
			Annotations: map[string]string{interlink.AnnotationOriginCluster: "c1", interlink.AnnotationOriginNode: "vk1"},
		},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "main", Image: "example.org/main:1"}},
		},
	}
}

// upgrade is the status code of a connection that is asked to be upgraded to SPDY.
func (s *site) upgrade(client, path string) int {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://unix"+path, http.NoBody)
	require.NoError(s.t, err)
	request.Header.Set(interlink.HeaderClient, client)
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "SPDY/3.1")
	request.Header.Set("X-Stream-Protocol-Version", "v4.channel.k8s.io")
	answer, err := s.client.Do(request)
	require.NoError(s.t, err)
	_ = answer.Body.Close()
	return answer.StatusCode
}

// serveUntilEnd serves until the test ends and returns the URL.
func serveUntilEnd(t *testing.T, config httpserver.Config) string {
	t.Helper()
	server, err := httpserver.New(config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = server.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return "http://" + server.Addr().String()
}
