// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package osnode_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	poolNamespace = "qst"
	poolName      = "batch"
	// idleTTL is how long the pool's nodes are without pods here before they go.
	idleTTL = 3 * time.Second
)

// TestOsnodePool is the life of the pool in the examples. Each step begins where the one before has ended.
func TestOsnodePool(t *testing.T) {
	w := theWorld(t)
	p := &poolLife{user: w.user(t, openstack.Zangrand, openstack.QST), pool: w.privatePool(t, openstack.Zangrand)}
	w.clean(t, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: poolNamespace, Name: "batch"}}, emptyPod(poolNamespace, "giant"),
		emptyPod(poolNamespace, "elsewhere"), emptyPod(poolNamespace, "patient"), emptyPool(poolNamespace, poolName))
	p.kubectl(t, "apply", "-f", "pool.yml")
	for _, step := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"grows when pods wait", p.grows},
		{"keeps what must not be disrupted, and lets go what is idle", p.shrinks},
		{"does not grow for what it cannot hold", p.refuses},
		{"waits for quota", p.waitsForQuota},
		{"is scaled by hand", p.scales},
		{"takes all with it", p.ends},
	} {
		if !t.Run(step.name, step.do) {
			return
		}
	}
}

type poolLife struct {
	user

	// pool is the value of the protected label of the pool's nodes.
	pool string
	// nodes and uids are of all that the pool has ever had.
	nodes, uids []string
}

func (p *poolLife) idle(t *testing.T, ttl time.Duration) {
	t.Helper()
	p.kubectl(t, "patch", "osnp", poolName, "--type=merge", "-p", fmt.Sprintf(`{"spec": {"autoscaling": {"idleTTL": %q}}}`, ttl))
}

// one waits until the pool has one node, and that is Running.
func (p *poolLife) one(t *testing.T) *osnodev1.OpenStackNode {
	t.Helper()
	members := p.running(t)
	require.Len(t, members, 1)
	return &members[0]
}

// running waits until the pool has nodes, and all of them are Running.
func (p *poolLife) running(t *testing.T) (members []osnodev1.OpenStackNode) {
	t.Helper()
	eventually(t, "the pool's nodes are Running", func(ctx context.Context) (bool, string) {
		var err error
		members, err = p.members(ctx, poolNamespace, poolName)
		waits := slices.ContainsFunc(members, func(osn osnodev1.OpenStackNode) bool { return osn.Status.Phase != osnodev1.PhaseRunning })
		return err == nil && len(members) > 0 && !waits, describe(members, err)
	})
	for i := range members {
		p.nodes, p.uids = append(p.nodes, members[i].Status.NodeID), append(p.uids, string(members[i].UID))
	}
	return members
}

// none waits until the pool has no nodes, and looks for what they might have left.
func (p *poolLife) none(t *testing.T) {
	t.Helper()
	eventually(t, "the pool has no nodes", func(ctx context.Context) (bool, string) {
		members, err := p.members(ctx, poolNamespace, poolName)
		return err == nil && len(members) == 0, describe(members, err)
	})
	p.assertNothingLeft(t, openstack.QST, p.nodes, p.uids)
}

// job applies the example with the user's own id, as the platform's admission writes it.
func (p *poolLife) job(t *testing.T) {
	t.Helper()
	example, err := os.ReadFile(filepath.Join(p.source, "examples", "osnode", "batch.yml"))
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "batch.yml")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(example), "u-YOUR-ID", p.pool)), 0o600))
	out := p.kubectl(t, "apply", "-f", file)
	assert.Contains(t, out, "job.batch/batch created\n")
	assert.Contains(t, out, "no node of yours is ready", "the platform's admission warns")
}

func (p *poolLife) grows(t *testing.T) {
	p.job(t)
	var waits, made time.Time
	eventually(t, "a node is made for the pods", func(ctx context.Context) (bool, string) {
		pods, err := p.podsOf(ctx, "batch")
		if err != nil {
			return false, err.Error()
		}
		if waits.IsZero() && len(pods) > 0 && unschedulable(&pods[0]) != "" {
			waits = time.Now()
		}
		members, err := p.members(ctx, poolNamespace, poolName)
		made = time.Now()
		return err == nil && len(members) > 0, describe(members, err)
	})
	require.False(t, waits.IsZero(), "the pods were found unschedulable first")
	t.Logf("a node is made %s after the pods were found unschedulable", made.Sub(waits).Round(100*time.Millisecond))
	p.kubectl(t, "wait", "--for=condition=Complete", "job/batch", "--timeout=170s")
	members := p.running(t)
	t.Logf("all is done %s after that, by %d nodes", time.Since(made).Round(100*time.Millisecond), len(members))
	pods, err := p.podsOf(t.Context(), "batch")
	require.NoError(t, err)
	require.Len(t, pods, 3, "none of them failed, although the nodes were very young")
	told, events := false, []string(nil)
	for i := range pods {
		assert.Equal(t, corev1.PodSucceeded, pods[i].Status.Phase)
		assert.Contains(t, p.nodes, pods[i].Spec.NodeName)
		for _, event := range p.events(t.Context(), &pods[i]) {
			told = told || strings.HasPrefix(event, "TriggeredScaleUp: pod triggered scale-up: pool batch grows from 0 to ")
			events = append(events, pods[i].Name+" "+event)
		}
	}
	assert.True(t, told, "a pod has been told that it made the pool grow; others may have found the node on its way: %s", strings.Join(events, "\n"))
	assert.Contains(t, p.kubectl(t, "logs", "job/batch"), "working on batch-")
	p.kubectl(t, "delete", "job", "batch")
}

func (p *poolLife) shrinks(t *testing.T) {
	members, err := p.members(t.Context(), poolNamespace, poolName)
	require.NoError(t, err)
	require.NotEmpty(t, members)
	p.kubectl(t, "annotate", "osn", members[0].Name, osnodev1.AnnotationDoNotDisrupt+"=true")
	p.idle(t, idleTTL)
	for until := time.Now().Add(2 * idleTTL); time.Now().Before(until); time.Sleep(interval) {
		osn, err := p.osn(t.Context(), poolNamespace, members[0].Name)
		require.NoError(t, err)
		require.Nil(t, osn.DeletionTimestamp, "it must not be disrupted")
	}
	p.kubectl(t, "annotate", "osn", members[0].Name, osnodev1.AnnotationDoNotDisrupt+"-")
	p.none(t)
	pool, err := p.osnp(t.Context(), poolNamespace, poolName)
	require.NoError(t, err)
	require.NotNil(t, pool.Status.LastScale)
	assert.Equal(t, "NodeIdle", pool.Status.LastScale.Reason)
	assert.Equal(t, int32(0), *pool.Spec.Replicas)
}

func (p *poolLife) refuses(t *testing.T) {
	p.run(t, workload{name: "giant", cpu: "30", pool: p.pool})
	p.awaitEvent(t, p.pod(t, "giant"), "NotTriggerScaleUp",
		`pod didn't trigger scale-up: the pod asks for more than a node of flavor "cloudveneto.medium" of pool "batch" has`)
	p.run(t, workload{name: "elsewhere", cpu: "1", pool: "u-somebody-else"})
	p.awaitEvent(t, p.pod(t, "elsewhere"), "NotTriggerScaleUp",
		"pod didn't trigger scale-up: the pod's node selector, affinity or tolerations do not fit the nodes of any pool that it may use")
	members, err := p.members(t.Context(), poolNamespace, poolName)
	require.NoError(t, err)
	assert.Empty(t, members)
	p.kubectl(t, "delete", "pod", "giant", "elsewhere", "--now")
}

func (p *poolLife) waitsForQuota(t *testing.T) {
	p.idle(t, time.Hour)
	enough := openstack.Quota{Cores: 20, MemoryMiB: 20 << 10, Instances: 10}
	t.Cleanup(func() { assert.NoError(t, p.cloud.SetQuota(context.WithoutCancel(t.Context()), openstack.QST, enough)) })
	require.NoError(t, p.cloud.SetQuota(t.Context(), openstack.QST, openstack.Quota{Cores: 1, MemoryMiB: 20 << 10, Instances: 10}))
	p.run(t, workload{name: "patient", cpu: "1", pool: p.pool})
	const why = `a node of flavor "cloudveneto.medium" of pool "batch" needs 2 cores, of which the project's quota leaves 1`
	p.awaitEvent(t, p.pod(t, "patient"), "NotTriggerScaleUp", "pod didn't trigger scale-up: "+why)
	eventually(t, "the pool says that it is limited", func(ctx context.Context) (bool, string) {
		pool, err := p.osnp(ctx, poolNamespace, poolName)
		if err != nil {
			return false, err.Error()
		}
		limited := meta.FindStatusCondition(pool.Status.Conditions, osnodev1.ConditionScalingLimited)
		return limited != nil && limited.Status == metav1.ConditionTrue && limited.Reason == osnodev1.ReasonQuotaExceeded && strings.Contains(limited.Message, "the project's quota leaves 1"),
			fmt.Sprintf("%+v", limited)
	})
	members, err := p.members(t.Context(), poolNamespace, poolName)
	require.NoError(t, err)
	assert.Empty(t, members)

	require.NoError(t, p.cloud.SetQuota(t.Context(), openstack.QST, enough))
	osn := p.one(t)
	assert.Equal(t, "cloudveneto.medium", osn.Spec.Flavor)
	p.kubectl(t, "wait", "--for=condition=Ready", "pod/patient", "--timeout=170s")
	assert.Equal(t, osn.Status.NodeID, p.pod(t, "patient").Spec.NodeName)
	p.kubectl(t, "delete", "pod", "patient", "--now")
}

func (p *poolLife) scales(t *testing.T) {
	assert.Equal(t, "openstacknodepool.osnode.infn.it/batch scaled\n", p.kubectl(t, "scale", "osnp", poolName, "--replicas=0"))
	p.none(t)
	p.kubectl(t, "scale", "osnp", poolName, "--replicas=1")
	osn := p.one(t)
	assert.Equal(t, "cloudveneto.medium", osn.Spec.Flavor, "the first, when no pods wait")
	p.kubectl(t, "wait", "--for=condition=Ready", "osnp/batch", "--timeout=60s")
	assert.Equal(t, [][]string{
		{"NAME", "DESIRED", "CURRENT", "READY", "MIN", "MAX", "POLICY", "AGE"},
		{poolName, "1", "1", "1", "0", "2", "private", "13d"},
	}, rows(p.kubectl(t, "get", "osnp")))
}

// ends deletes the pool, which still has a node.
func (p *poolLife) ends(t *testing.T) {
	p.kubectl(t, "delete", "osnp", poolName)
	p.none(t)
	_, err := p.osnp(t.Context(), poolNamespace, poolName)
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
}

// podsOf are the pods of a Job.
func (p *poolLife) podsOf(ctx context.Context, job string) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := p.client.List(ctx, pods, client.InNamespace(poolNamespace), client.MatchingLabels{batchv1.JobNameLabel: job})
	return pods.Items, err
}
