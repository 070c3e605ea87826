// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

const apiServer = "kube-apiserver"

func outageCases() []fidelityCase {
	return []fidelityCase{
		{name: "18 the sidecar is down", ownPath: true, run: partsDown(offload.Sidecar)},
		{name: "18 the API is down, until the node is not ready", ownPath: true, run: apiDown},
		{name: "18 the virtual kubelet is down", ownPath: true, run: partsDown(offload.VirtualKubelet)},
		{name: "18 the whole path is down", ownPath: true, run: partsDown(offload.Sidecar, offload.API, offload.VirtualKubelet)},
		{name: "18 the target's API server is down", alone: true, run: targetDown},
		{name: "18 the origin's API server is down", alone: true, run: originDown},
		{name: "18 both API servers and the path restart", alone: true, run: allRestart},
		{name: "18 an expired client certificate", ownPath: true, run: expiredCertificate},
		{name: "18 the target answers 429", alone: true, run: tooManyRequests},
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
	r.awaitPhase(t, "finisher", corev1.PodRunning)
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
		t.Cleanup(func() { r.restore(t) })
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

func apiDown(t *testing.T, r *room) {
	c := perform(t, r)
	require.NoError(t, r.path.Kill(t.Context(), offload.API))
	t.Cleanup(func() { r.restore(t) })
	began := time.Now()
	c.change(t)
	r.awaitNotReady(t)
	lasted := time.Since(began)
	assert.Greater(t, lasted, 5*time.Second, "not at the first failure")
	require.NoError(t, r.path.StartAll(t.Context()))
	back := time.Now()
	awaitNode(t, r.af, r.node)
	t.Logf("not ready after %s, ready again after %s", lasted.Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
	assert.Less(t, time.Since(back), 10*time.Second)
	c.verify(t)
}

func (r *room) awaitNotReady(t *testing.T) {
	t.Helper()
	eventually(t.Context(), t, "the virtual node is not ready", func() (bool, string) {
		node, err := r.af.CoreV1().Nodes().Get(t.Context(), r.node, metav1.GetOptions{})
		require.NoError(t, err)
		return !nodeReady(node), node.Status.String()
	})
}

// stopServer kills the API server of a cluster.
func (w *world) stopServer(t *testing.T, cluster string) {
	t.Helper()
	server, err := proc.Load(filepath.Join(w.plane(t, cluster).Config().Dir, "run"), apiServer)
	require.NoError(t, err)
	require.NoError(t, server.Kill())
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
	require.NoError(t, r.startServer(t.Context(), lab.CaaS))
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
	require.NoError(t, r.startServer(t.Context(), lab.AF))
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
	require.NoError(t, errors.Join(r.startServer(t.Context(), lab.AF), r.startServer(t.Context(), lab.CaaS)))
	c.verify(t)
}

// tooManyRequests has the target's API server turn down all that the sidecar asks.
func tooManyRequests(t *testing.T, r *room) {
	c := perform(t, r)
	const name = "fidelity-none"
	flows := r.caas.FlowcontrolV1()
	_, err := flows.PriorityLevelConfigurations().Create(t.Context(), &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: meta(name),
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: new(int32(0)), LendablePercent: new(int32(0)), BorrowingLimitPercent: new(int32(0)),
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
			},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, offload.IgnoreExisting(err))
	user := r.awaitFar(t, c.steady).Labels["osn.infn.it/userid"]
	require.NotEmpty(t, user)
	_, err = flows.FlowSchemas().Create(t.Context(), &flowcontrolv1.FlowSchema{
		ObjectMeta: meta(name),
		Spec: flowcontrolv1.FlowSchemaSpec{
			MatchingPrecedence: 2, PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: name},
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
				Subjects: []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: projectGroup(t, r)}}},
				ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
					Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, Namespaces: []string{"*"}, ClusterScope: true,
				}},
			}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, offload.IgnoreExisting(err))
	remove := func(ctx context.Context) error {
		return errors.Join(
			ignoreMissing(flows.FlowSchemas().Delete(ctx, name, metav1.DeleteOptions{})),
			ignoreMissing(flows.PriorityLevelConfigurations().Delete(ctx, name, metav1.DeleteOptions{})),
		)
	}
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		assert.NoError(t, remove(ctx))
	})
	pass(t, 3*time.Second) // the API server reads its configuration
	c.change(t)
	seen := r.awaitPod(t, "fresh", "it is being tried again", func(pod *corev1.Pod) bool { return waiting(pod, "main") == "RemoteCreateFailed" })
	assert.Equal(t, corev1.PodPending, seen.Status.Phase)
	assert.Contains(t, container(seen, "main").State.Waiting.Message, "overloaded")
	require.NoError(t, remove(t.Context()))
	c.verify(t)
}

func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// projectGroup is the group that the sidecar's login is in.
func projectGroup(t *testing.T, r *room) string {
	t.Helper()
	keystone, err := r.lab.Keystone()
	require.NoError(t, err)
	project, err := keystone.Project(offload.Project)
	require.NoError(t, err)
	return "osn:project:" + project.ID
}
