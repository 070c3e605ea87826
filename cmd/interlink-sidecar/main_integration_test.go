// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/programtest"
)

// TestProgram creates a pod through the real program, kills it, and finds the pod
// again with the next one.
func TestProgram(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Start(t, kubetest.Options{ControllerManager: true})
	admin := cluster.Client()
	require.Eventually(t, func() bool {
		_, err := admin.CoreV1().ServiceAccounts("default").Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	socket := filepath.Join(t.TempDir(), "plugin.sock")
	args := []string{"--kubeconfig", cluster.AdminKubeconfig(), "--namespace", "default", "--listen", "unix://" + socket, "--ops-listen", "127.0.0.1:0", "--log-level", "debug"}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	ask := func(path, body string) (int, string) {
		return answer(t, client, http.MethodPost, "http://unix"+path, body)
	}
	usable := func() bool { code, _ := ask(interlink.PathStatus, "[]"); return code == http.StatusOK }

	first := programtest.Start(t, binary.Command(t, args...))
	require.Eventually(t, usable, 30*time.Second, 50*time.Millisecond, first.String())
	body := `{"pod":{"metadata":{"name":"p","namespace":"n","uid":"u-1"},"spec":{"containers":[{"name":"main","image":"i","env":[{"name":"TOKEN","value":"do-not-log-me"}]}]}}}`
	code, created := ask(interlink.PathCreate, body)
	require.Equal(t, http.StatusOK, code, created)
	require.ErrorContains(t, first.End(syscall.SIGKILL), "killed")

	second := programtest.Start(t, binary.Command(t, args...))
	require.Eventually(t, usable, 30*time.Second, 50*time.Millisecond, "the killed program's socket does not stop the next one")
	code, again := ask(interlink.PathCreate, body)
	require.Equal(t, http.StatusOK, code)
	assert.Equal(t, created, again, "the same job")
	pods, err := admin.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Len(t, pods.Items, 1)
	_, text := ask(interlink.PathStatus, `[{"metadata":{"name":"p","namespace":"n","uid":"u-1"},"spec":{"containers":[{"name":"main"}]}}]`)
	var statuses []interlink.PodStatus
	require.NoError(t, json.Unmarshal([]byte(text), &statuses))
	assert.Equal(t, []corev1.ContainerStatus{{Name: "main", State: statuses[0].Containers[0].State}}, statuses[0].Containers)

	assert.NoError(t, second.End(syscall.SIGTERM), second)
	for _, p := range []*programtest.Process{first, second} {
		assert.NotContains(t, p.String(), "do-not-log-me")
		assert.NotContains(t, p.String(), "panic")
	}
}

// answer is what a request is answered; a status of 0 is with an error.
func answer(t *testing.T, client *http.Client, method, url, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	answer, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

// TestClusterComesLater starts the program while nobody listens where its cluster is. It lives, says why it cannot work,
// and works when the cluster does.
func TestClusterComesLater(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Start(t, kubetest.Options{})
	config, err := clientcmd.LoadFromFile(cluster.AdminKubeconfig())
	require.NoError(t, err)
	address, listen, ops := programtest.FreeAddress(t), programtest.FreeAddress(t), programtest.FreeAddress(t)
	var target string
	for _, one := range config.Clusters {
		target = strings.TrimPrefix(one.Server, "https://")
		one.Server = "https://" + address
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, kubeconfig))
	process := programtest.Start(t, binary.Command(t,
		"--kubeconfig", kubeconfig, "--namespace", "default", "--listen", listen, "--ops-listen", ops, "--pprof"))
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, url, body string) (int, string) { return answer(t, client, method, url, body) }
	const why = "the target cluster has not said yet who the sidecar is"
	require.Eventually(t, func() bool {
		code, _ := ask(http.MethodGet, "http://"+ops+"/healthz", "")
		return code == http.StatusOK
	}, 30*time.Second, 50*time.Millisecond)
	code, text := ask(http.MethodGet, "http://"+ops+"/readyz", "")
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Contains(t, text, why)
	code, text = ask(http.MethodPost, "http://"+listen+interlink.PathStatus, "[]")
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Contains(t, text, why)

	forward(t, address, target)
	require.Eventually(t, func() bool {
		code, _ := ask(http.MethodGet, "http://"+ops+"/readyz", "")
		return code == http.StatusOK
	}, time.Minute, 50*time.Millisecond)
	code, text = ask(http.MethodPost, "http://"+listen+interlink.PathStatus, "[]")
	assert.Equal(t, http.StatusOK, code, text)
	code, text = ask(http.MethodGet, "http://"+ops+"/debug/pprof/cmdline", "")
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, text, "--pprof")
	require.NoError(t, process.End(syscall.SIGTERM), process)
}

// TestEndsWithoutCluster: it ends in good order before it has ever reached its cluster.
func TestEndsWithoutCluster(t *testing.T) {
	t.Parallel()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"away": {Server: "https://" + programtest.FreeAddress(t)}},
		Contexts:       map[string]*clientcmdapi.Context{"away": {Cluster: "away"}},
		CurrentContext: "away",
	}, kubeconfig))
	process := programtest.Start(t, binary.Command(t,
		"--kubeconfig", kubeconfig, "--namespace", "default", "--listen", programtest.FreeAddress(t)))
	require.Eventually(t, func() bool { return strings.Contains(process.String(), "asking again") }, 30*time.Second, 20*time.Millisecond)
	began := time.Now()
	require.NoError(t, process.End(syscall.SIGTERM), process)
	assert.Less(t, time.Since(began), 10*time.Second)
}

// forward passes connections on, until the test ends.
func forward(t *testing.T, from, to string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", from)
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = near.Close() }()
				far, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to)
				if err != nil {
					return
				}
				defer func() { _ = far.Close() }()
				go func() {
					_, _ = io.Copy(far, near)
					_ = far.Close()
				}()
				_, _ = io.Copy(near, far)
			}()
		}
	}()
}
