// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/programtest"
	"github.com/cloudveneto/caas/provider/providertest"
)

const patience = 60 * time.Second

// program is the built virtual kubelet in front of a far end.
type program struct {
	t          *testing.T
	config     string
	kubeconfig string
	ops        string
	kubelet    string
	command    *exec.Cmd
}

//nolint:gochecknoglobals // built once for all tests
var binary programtest.Binary

func TestMain(m *testing.M) { os.Exit(binary.Run(m)) }

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	return port
}

func newProgram(t *testing.T, kubeconfig, far, more string) *program {
	t.Helper()
	p := &program{
		t: t, kubeconfig: kubeconfig, config: filepath.Join(t.TempDir(), "config.yaml"),
		ops: "127.0.0.1:" + freePort(t), kubelet: freePort(t),
	}
	require.NoError(t, os.WriteFile(p.config, fmt.Appendf(nil,
		"InterlinkURL: %s\nClusterID: origin\nDisableCSR: true\nOpsAddress: %s\nPingInterval: 1s\n%s", far, p.ops, more), 0o600))
	return p
}

func (p *program) start() {
	p.t.Helper()
	p.command = exec.CommandContext(p.t.Context(), binary.Path(p.t), "-nodename=caas-0", "-configpath="+p.config, "--kubeconfig="+p.kubeconfig, "--pprof")
	p.command.Env = append(os.Environ(), "KUBELET_URL=127.0.0.1", "KUBELET_PORT="+p.kubelet, "POD_IP=127.0.0.1")
	p.command.Stdout, p.command.Stderr = p.t.Output(), p.t.Output()
	require.NoError(p.t, p.command.Start())
}

func (p *program) end(signal syscall.Signal) error {
	p.t.Helper()
	require.NoError(p.t, p.command.Process.Signal(signal))
	return p.command.Wait()
}

func (p *program) get(path string) (int, string) {
	p.t.Helper()
	return ask(p.t, "http://"+p.ops+path)
}

// ask is what a program answers; a status of 0 is that it does not.
func ask(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	answer, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body)
}

func running(t *testing.T, client kubernetes.Interface) int {
	t.Helper()
	pods, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	count := 0
	for i := range pods.Items {
		if pods.Items[i].Status.Phase == corev1.PodRunning {
			count++
		}
	}
	return count
}

// TestKilledAtAnyMoment kills the program while pods come and go, and expects
// that the next one finds everything and doubles nothing.
func TestKilledAtAnyMoment(t *testing.T) {
	const count = 40
	cluster := kubetest.Start(t, kubetest.Options{ControllerManager: true, Scheduler: true})
	admin := cluster.Client()
	far := providertest.Start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	p := newProgram(t, cluster.Kubeconfig("system:node:caas-0", "system:nodes"), far.URL(), "")
	p.start()
	require.Eventually(t, func() bool {
		_, err := admin.CoreV1().ServiceAccounts("default").Get(t.Context(), "default", metav1.GetOptions{})
		code, _ := p.get("/readyz")
		return err == nil && code == http.StatusOK
	}, patience, 50*time.Millisecond)
	uids := make([]types.UID, count)
	for i := range count {
		pod, err := admin.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i)},
			Spec: corev1.PodSpec{
				NodeSelector: map[string]string{corev1.LabelHostname: "caas-0"}, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
				Containers: []corev1.Container{{Name: "main", Image: "busybox"}},
			},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		uids[i] = pod.UID
		if i%10 == 9 {
			require.Error(t, p.end(syscall.SIGKILL))
			p.start()
		}
	}
	require.Eventually(t, func() bool { return running(t, admin) == count }, patience, 50*time.Millisecond)
	assert.ElementsMatch(t, uids, far.Held())
	for i := range count / 2 {
		require.NoError(t, admin.CoreV1().Pods("default").Delete(t.Context(), fmt.Sprintf("p%d", i), metav1.DeleteOptions{}))
		if i%7 == 6 {
			require.Error(t, p.end(syscall.SIGKILL))
			p.start()
		}
	}
	require.Eventually(t, func() bool {
		pods, err := admin.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		return len(pods.Items) == count/2 && len(far.Held()) == count/2
	}, patience, 50*time.Millisecond)
	assert.ElementsMatch(t, uids[count/2:], far.Held())
	assert.Equal(t, count/2, running(t, admin), "those that were not deleted still run")
	require.Eventually(t, func() bool {
		_, figures := p.get("/metrics")
		return strings.Contains(figures, fmt.Sprintf("\nvirtual_kubelet_pods %d\n", count/2))
	}, patience, 100*time.Millisecond)
	code, profiles := p.get("/debug/pprof/cmdline")
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, profiles, "--pprof")
	require.NoError(t, p.end(syscall.SIGTERM), "a signal ends it in good order")
	assert.Len(t, far.Held(), count/2, "and deletes nothing")
}

// TestOneWorksTheOtherWaits runs two programs for one node.
func TestOneWorksTheOtherWaits(t *testing.T) {
	cluster := kubetest.Start(t, kubetest.Options{ControllerManager: true})
	admin := cluster.Client()
	far := providertest.Start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	const election = "LeaderElection: {Enabled: true}\n"
	first := newProgram(t, cluster.AdminKubeconfig(), far.URL(), election)
	second := newProgram(t, cluster.AdminKubeconfig(), far.URL(), election)
	first.start()
	run := func(name string) {
		t.Helper()
		require.Eventually(t, func() bool {
			_, err := admin.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Spec:       corev1.PodSpec{NodeName: "caas-0", Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
			}, metav1.CreateOptions{})
			return err == nil
		}, patience, 100*time.Millisecond)
	}
	run("a")
	require.Eventually(t, func() bool { return running(t, admin) == 1 }, patience, 50*time.Millisecond)
	second.start()
	require.Eventually(t, func() bool { code, _ := second.get("/readyz"); return code == http.StatusOK }, patience, 50*time.Millisecond)
	assert.Equal(t, 1, far.Streams(), "the second one waits")
	require.NoError(t, first.end(syscall.SIGTERM))
	run("b")
	require.Eventually(t, func() bool { return running(t, admin) == 2 }, patience, 50*time.Millisecond)
	assert.Len(t, far.Held(), 2)
	require.NoError(t, second.end(syscall.SIGTERM))
}
