// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"context"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

func outageCases() []fidelityCase {
	return []fidelityCase{
		{name: "18 the sidecar is down", ownPath: firstPath, run: partsDown(offload.Sidecar)},
		{name: "18 the API is down, until the node is not ready", ownPath: secondPath, run: apiDown},
		{name: "18 the virtual kubelet is down", ownPath: firstPath, run: partsDown(offload.VirtualKubelet)},
		{name: "18 the whole path is down", ownPath: firstPath, run: partsDown(offload.Sidecar, offload.API, offload.VirtualKubelet)},
		{name: "18 the target's API server is down", alone: true, run: targetDown},
		{name: "18 the origin's API server is down", alone: true, run: originDown},
		{name: "18 both API servers and the path restart", alone: true, run: allRestart},
		{name: "18 an expired client certificate", ownPath: secondPath, run: expiredCertificate},
		{name: "18 the target answers 429", waits: true, where: atSite("site-busy"), run: tooManyRequests},
		{name: "18 the target's etcd is restored from a backup", alone: true, run: targetRestored},
		{name: "18 the origin's etcd is restored from a backup", alone: true, run: originRestored},
	}
}

// troupe are pods that live through an outage.
type troupe struct {
	*room
	finisher, doomed, steady, fresh *corev1.Pod
	steadyFar                       *corev1.Pod
	never                           []func()
}

// perform has pods run when an outage begins: one that will end during it, one that is going to be deleted and one that
// goes on.
func perform(t *testing.T, r *room) *troupe {
	t.Helper()
	c := &troupe{room: r}
	for _, name := range []string{"finisher", "doomed", "steady"} {
		c.never = append(c.never, r.watchEnds(t, name))
	}
	c.doomed = r.create(t, r.shell("doomed", "trap 'exit 0' TERM; sleep 3600 & wait"))
	c.steady = r.create(t, r.shell("steady", "sleep 3600"))
	r.awaitPhase(t, "doomed", corev1.PodRunning)
	r.awaitPhase(t, "steady", corev1.PodRunning)
	c.finisher = r.create(t, r.shell("finisher", "sleep 5; exit 7"))
	r.awaitPod(t, "finisher", "it has begun", func(pod *corev1.Pod) bool { return pod.Status.Phase != corev1.PodPending })
	c.steadyFar = r.awaitFar(t, c.steady)
	return c
}

// watchEnds looks out for pods that are said to have ended as they have not.
func (r *room) watchEnds(t *testing.T, name string) func() {
	t.Helper()
	return r.watchPhases(t, name, func(pod *corev1.Pod) bool {
		if !ended(pod) {
			return false
		}
		state := container(pod, "main").State.Terminated
		return name != "finisher" || state == nil || state.ExitCode != 7
	})
}

// change deletes one pod and creates another, at the origin, in the middle of the outage.
func (c *troupe) change(t *testing.T) {
	t.Helper()
	c.delete(t, "doomed", 1)
	c.fresh = c.create(t, c.shell("fresh", "exit 42"))
}

// verify looks at both ends once everything is up again.
func (c *troupe) verify(t *testing.T) {
	t.Helper()
	seen := c.awaitPhase(t, "finisher", corev1.PodFailed)
	require.NotNil(t, container(seen, "main").State.Terminated)
	assert.Equal(t, int32(7), container(seen, "main").State.Terminated.ExitCode, "the true exit code of what ended meanwhile")
	if c.fresh != nil {
		c.awaitGone(t, c.doomed)
		assert.Empty(t, c.far(t, c.doomed))
		seen = c.awaitPhase(t, "fresh", corev1.PodFailed)
		require.NotNil(t, container(seen, "main").State.Terminated, describe(seen))
		assert.Equal(t, int32(42), container(seen, "main").State.Terminated.ExitCode)
		assert.Len(t, c.far(t, c.fresh), 1, "made once")
	}
	now := c.far(t, c.steady)
	if assert.Len(t, now, 1) {
		assert.Equal(t, c.steadyFar.UID, now[0].UID)
		assert.Nil(t, now[0].DeletionTimestamp)
	}
	assert.Equal(t, corev1.PodRunning, c.get(t, "steady").Status.Phase)
	for _, never := range c.never {
		never()
	}
	awaitNode(t, c.af, c.node)
	began := time.Now()
	assert.Equal(t, "fine\n", c.run(t, c.shell("later", "echo fine")))
	t.Logf("a pod after the outage took %s", time.Since(began).Round(time.Millisecond))
}

// pass lets time go by, in which the outage is all that happens.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	rest(t.Context(), d)
}

// partsDown kills processes of the path, and starts them again after some time.
func partsDown(components ...string) func(t *testing.T, r *room) {
	return func(t *testing.T, r *room) {
		c := perform(t, r)
		for _, component := range components {
			require.NoError(t, r.path.Kill(t.Context(), component))
		}
		t.Cleanup(func() { r.mend(t) })
		c.change(t)
		pass(t, 8*time.Second)
		require.NoError(t, r.path.StartAll(t.Context()))
		c.verify(t)
	}
}

// restore starts whatever a failed case left dead.
func (r *room) restore(t *testing.T) {
	t.Helper()
	ctx, cancel := cleanupContext(t)
	defer cancel()
	for _, cluster := range []string{lab.CaaS, lab.AF} {
		assert.NoError(t, r.startServer(ctx, cluster))
	}
	assert.NoError(t, r.startPaths(ctx))
}

// mend starts whatever a failed case left dead of its own path.
func (r *room) mend(t *testing.T) {
	t.Helper()
	ctx, cancel := cleanupContext(t)
	defer cancel()
	assert.NoError(t, start(ctx, r.path))
}

func apiDown(t *testing.T, r *room) {
	c := perform(t, r)
	require.NoError(t, r.path.Kill(t.Context(), offload.API))
	t.Cleanup(func() { r.mend(t) })
	began := time.Now()
	c.change(t)
	r.awaitNotReady(t)
	lasted := time.Since(began)
	assert.Greater(t, lasted, 5*time.Second, "not at the first failure")
	require.NoError(t, r.path.StartAll(t.Context()))
	back := time.Now()
	awaitNode(t, r.af, r.node)
	// How soon that is, is held to in provider/virtualnode and sidecar/plugin/watch, where time is of the test's making.
	t.Logf("not ready after %s, ready again after %s", lasted.Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
	c.verify(t)
}

func (r *room) awaitNotReady(t *testing.T) {
	t.Helper()
	eventually(t.Context(), t, "the virtual node is not ready", func() (bool, string) {
		node := r.virtualNode(t)
		return !nodeReady(node), node.Status.String()
	})
}

// stopServer kills the API server of a cluster, and what of Kubernetes stands beside it: their watches would wait for up to
// a minute after the outage, which is not what is looked at.
func (w *world) stopServer(t *testing.T, cluster string) {
	t.Helper()
	for _, name := range []string{"kube-apiserver", "kube-scheduler", "kube-controller-manager"} {
		process, err := proc.Load(filepath.Join(w.plane(t, cluster).Config().Dir, "run"), name)
		require.NoError(t, err)
		require.NoError(t, process.Kill())
	}
}

// backAgain starts the API server, and the kubelets anew, for the same reason.
func (w *world) backAgain(t *testing.T, cluster string) {
	t.Helper()
	require.NoError(t, w.startServer(t.Context(), cluster))
	nodes := map[string][]string{lab.CaaS: {"caas-1", "caas-2", "caas-3"}, lab.AF: {"af-1"}}
	w.restartKubelets(t, nodes[cluster]...)
}

func (w *world) plane(t *testing.T, cluster string) *kube.ControlPlane {
	t.Helper()
	c, err := w.lab.Cluster(cluster)
	require.NoError(t, err)
	plane, err := c.ControlPlane()
	require.NoError(t, err)
	return plane
}

// startServer starts of a cluster's control plane what does not run, and returns when it answers.
func (w *world) startServer(ctx context.Context, cluster string) error {
	c, err := w.lab.Cluster(cluster)
	if err != nil {
		return err
	}
	plane, err := c.ControlPlane()
	if err != nil {
		return err
	}
	if plane.Running() {
		return nil
	}
	_, err = kube.Start(ctx, plane.Config())
	return err
}

func targetDown(t *testing.T, r *room) {
	c := perform(t, r)
	r.stopServer(t, lab.CaaS)
	t.Cleanup(func() { r.restore(t) })
	c.change(t)
	pass(t, 12*time.Second)
	assert.Equal(t, corev1.PodRunning, r.get(t, "steady").Status.Phase, "nothing is said of what is not known")
	assert.Equal(t, corev1.PodPending, r.get(t, "fresh").Status.Phase)
	require.NoError(t, r.startServer(t.Context(), lab.CaaS), "the kubelets live through it, as a site's do")
	c.verify(t)
}

func originDown(t *testing.T, r *room) {
	c := perform(t, r)
	for _, never := range c.never {
		never() // a watch does not outlive its API server
	}
	c.never = nil
	r.stopServer(t, lab.AF)
	t.Cleanup(func() { r.restore(t) })
	pass(t, 4*time.Second)
	require.NoError(t, r.path.Kill(t.Context(), offload.VirtualKubelet), "one that starts without an origin")
	require.NoError(t, r.path.Start(t.Context(), offload.VirtualKubelet))
	pass(t, 6*time.Second)
	far := r.far(t, c.steady)
	require.Len(t, far, 1, "nothing is deleted for an origin that does not answer")
	assert.Nil(t, far[0].DeletionTimestamp)
	r.backAgain(t, lab.AF)
	c.verify(t)
}

func allRestart(t *testing.T, r *room) {
	c := perform(t, r)
	for _, never := range c.never {
		never()
	}
	c.never = nil
	c.change(t)
	r.stopServer(t, lab.CaaS)
	r.stopServer(t, lab.AF)
	for _, component := range r.path.Components() {
		require.NoError(t, r.path.Kill(t.Context(), component))
	}
	t.Cleanup(func() { r.restore(t) })
	pass(t, 5*time.Second)
	require.NoError(t, r.path.StartAll(t.Context()), "the path is there first")
	pass(t, 3*time.Second)
	r.backAgain(t, lab.AF)
	r.backAgain(t, lab.CaaS)
	c.verify(t)
}

// tooManyRequests has the target's API server answer creates with 429 for a while.
func tooManyRequests(t *testing.T, r *room) {
	var busy atomic.Bool
	r.webhook(t, 9556, func() *admissionv1.AdmissionResponse {
		if !busy.Load() {
			return &admissionv1.AdmissionResponse{Allowed: true}
		}
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests, Message: "slow down",
		}}
	})
	c := perform(t, r)
	busy.Store(true)
	eventually(t.Context(), t, "the target answers 429", func() (bool, string) {
		_, err := r.tryCreate(t)
		return apierrors.IsTooManyRequests(err), describeError(err)
	})
	c.change(t)
	seen := r.awaitPod(t, "fresh", "it is being tried again", func(pod *corev1.Pod) bool { return waiting(pod, "main") == "RemoteCreateFailed" })
	assert.Equal(t, corev1.PodPending, seen.Status.Phase)
	assert.Contains(t, container(seen, "main").State.Waiting.Message, "overloaded")
	assert.True(t, nodeReady(r.virtualNode(t)), "that is no reason to give the node up")
	busy.Store(false)
	c.verify(t)
}

func (r *room) virtualNode(t *testing.T) *corev1.Node {
	t.Helper()
	node, err := r.af.CoreV1().Nodes().Get(t.Context(), r.node, metav1.GetOptions{})
	require.NoError(t, err)
	return node
}

func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
