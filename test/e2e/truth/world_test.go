// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package truth_test compares what users of the remote cluster see of a pod on the
// virtual node with what happens to it: states, ends, events, figures, debugging.
package truth_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	labName   = "truth"
	node      = "caas-virtual"
	namespace = "analysis"
	remote    = "cms"
	busybox   = "docker.io/library/busybox:1.36"
	patience  = 3 * time.Minute
)

// world is a lab with an offloading path.
type world struct {
	lab      *lab.Lab
	af, caas *kubernetes.Clientset
	path     *offload.Path
}

// TestMain removes the lab at the end, also when it is interrupted.
func TestMain(m *testing.M) {
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted.Done()
		if interrupted.Err() != nil {
			down()
			os.Exit(130)
		}
	}()
	code := m.Run()
	if os.Getenv("CAAS_KEEP_LAB") == "" {
		down()
	}
	_ = stop // the process ends here; until then a signal is still wanted
	os.Exit(code)
}

func down() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if _, err := lab.Down(ctx, labName, nil); err != nil {
		fmt.Fprintln(os.Stderr, "remove the lab:", err)
	}
}

//nolint:gochecknoglobals // one lab serves all tests of the package
var shared struct {
	once  sync.Once
	world *world
	err   error
}

func theWorld(t *testing.T) *world {
	t.Helper()
	shared.once.Do(func() { shared.world, shared.err = newWorld(t) })
	require.NoError(t, shared.err, "the lab came up")
	return shared.world
}

func newWorld(t *testing.T) (*world, error) {
	t.Helper()
	programs := os.Getenv("CAAS_BIN")
	require.NotEmpty(t, programs, "CAAS_BIN names the directory of the built programs; run the tests by make e2e")
	ctx := context.Background()
	_, err := lab.Up(ctx, lab.Config{Name: labName, Executable: filepath.Join(programs, "caas-lab"), Progress: func(p lab.Progress) {
		if p.Done {
			t.Logf("%s (%s)", p.Step, p.Elapsed.Round(time.Millisecond))
		}
	}})
	if err != nil {
		return nil, err
	}
	l, err := lab.Open(labName)
	if err != nil {
		return nil, err
	}
	w := &world{lab: l}
	for name, client := range map[string]**kubernetes.Clientset{lab.AF: &w.af, lab.CaaS: &w.caas} {
		cluster, err := l.Cluster(name)
		if err != nil {
			return nil, err
		}
		config, err := cluster.RESTConfig()
		if err != nil {
			return nil, err
		}
		if *client, err = kubernetes.NewForConfig(config); err != nil {
			return nil, err
		}
	}
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := w.af.CoreV1().Namespaces().Create(ctx, made, metav1.CreateOptions{}); offload.IgnoreExisting(err) != nil {
		return nil, err
	}
	if w.path, err = offload.New(ctx, offload.Config{Lab: l, BinDir: programs, Node: node, RemoteNamespace: remote}); err != nil {
		return nil, err
	}
	if err := w.path.StartAll(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return w, w.path.AwaitReady(ctx)
}

// command is kubectl against the remote cluster, in the tests' namespace.
func (w *world) command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cluster, err := w.lab.Cluster(lab.AF)
	require.NoError(t, err)
	return exec.CommandContext(ctx, w.lab.Kubectl(), append([]string{"--kubeconfig=" + cluster.Kubeconfig(), "--namespace=" + namespace}, args...)...)
}

// kubectl runs kubectl and returns what it says.
func (w *world) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := w.command(ctx, t, args...)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	require.NoError(t, command.Run(), "kubectl %v: %s", args, &out)
	return out.String()
}

// shell returns a pod whose only container runs a shell script.
func shell(name, script string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: new(int64(2)),
			NodeSelector:                  map[string]string{"kubernetes.io/hostname": node},
			Tolerations:                   []corev1.Toleration{{Key: "virtual-node.interlink/no-schedule", Operator: corev1.TolerationOpExists}},
			Containers:                    []corev1.Container{container("main", script)},
		},
	}
}

func container(name, script string) corev1.Container {
	return corev1.Container{Name: name, Image: busybox, Command: []string{"sh", "-c", script}}
}

func (w *world) create(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	created, err := w.af.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = w.af.CoreV1().Pods(namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))})
	})
	return created
}

// await waits until the origin's pod is as wanted.
func (w *world) await(t *testing.T, name, what string, done func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var last *corev1.Pod
	eventually(t, "pod "+name+" "+what, func() (bool, string) {
		pod, err := w.af.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		last = pod
		return done(pod), fmt.Sprintf("%+v", pod.Status)
	})
	return last
}

func inPhase(phase corev1.PodPhase) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool { return pod.Status.Phase == phase }
}

// there returns the pod of the CaaS cluster that stands for an origin's pod.
func (w *world) there(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	list, err := w.caas.CoreV1().Pods(remote).List(t.Context(), metav1.ListOptions{LabelSelector: "offload.infn.it/uid=" + string(pod.UID)})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	return &list.Items[0]
}

// eventually waits until done says true; the text beside it says how things stand.
func eventually(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	labtest.Eventually(t.Context(), t, patience, what, done)
}
