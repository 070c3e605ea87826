// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/offload"
)

// clusterLocal has everything in its spec that means something in the origin only.
func clusterLocal(t *testing.T, r *room) {
	_, err := r.af.SchedulingV1().PriorityClasses().Create(t.Context(), &schedulingv1.PriorityClass{ObjectMeta: meta("fidelity-urgent"), Value: 1000}, metav1.CreateOptions{})
	require.NoError(t, offload.IgnoreExisting(err))
	pod := r.shell("local", "true")
	pod.Labels = map[string]string{"app": "local", "controller-uid": "x", "pod-template-hash": "abc", "app.kubernetes.io/managed-by": "Helm"}
	pod.Finalizers = []string{"fidelity.test/origin"}
	pod.Spec.PriorityClassName = "fidelity-urgent"
	terms := func(key string) []corev1.NodeSelectorTerm {
		return []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpExists}}}}
	}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "none"}}
	pod.Spec.Affinity = &corev1.Affinity{
		NodeAffinity:    &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms("virtual-node.interlink/type")}},
		PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: selector, TopologyKey: "kubernetes.io/hostname"}}},
	}
	pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "kubernetes.io/hostname", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: selector}}
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "fidelity.test/quota"}}
	created := r.create(t, pod)
	stays(t.Context(), t, "a gated pod goes nowhere", func() (bool, string) {
		return len(r.far(t, created)) == 0 && r.get(t, "local").Spec.NodeName == "", ""
	})
	patch := []byte(`[{"op":"remove","path":"/spec/schedulingGates/0"}]`)
	_, err = r.af.CoreV1().Pods(r.namespace).Patch(t.Context(), "local", "application/json-patch+json", patch, metav1.PatchOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { r.dropFinalizers(t, "local") })
	r.awaitPhase(t, "local", corev1.PodSucceeded)
	far := r.awaitFar(t, created)
	assert.Empty(t, far.Spec.PriorityClassName)
	assert.Zero(t, *far.Spec.Priority)
	assert.Nil(t, far.Spec.TopologySpreadConstraints)
	assert.Empty(t, far.Finalizers)
	assert.Empty(t, far.OwnerReferences)
	assert.Equal(t, "default-scheduler", far.Spec.SchedulerName)
	report := far.Annotations[reportAnnotation]
	for _, field := range []string{
		"spec.priorityClassName", "spec.priority", "spec.nodeSelector", "spec.affinity.nodeAffinity", "spec.affinity.podAntiAffinity",
		"spec.topologySpreadConstraints", "spec.tolerations",
	} {
		assert.Contains(t, report, `"`+field+`"`, "what was left out is recorded")
	}
	assert.Equal(t, "interlink-sidecar", far.Labels["app.kubernetes.io/managed-by"])
	for key := range far.Labels {
		assert.NotContains(t, []string{"app", "controller-uid", "pod-template-hash"}, key, "no controller and no Service of the target takes the pod for its own")
	}
	for key, value := range pod.Labels {
		assert.Equal(t, value, far.Labels["labels.offload.infn.it/"+strings.ReplaceAll(key, "/", "_")])
	}

	// A finalizer holds the origin's object, and the target's is gone all the same.
	r.delete(t, "local", 1)
	eventually(t.Context(), t, "gone at the target", func() (bool, string) { return len(r.far(t, created)) == 0, "" })
	assert.NotNil(t, r.get(t, "local").DeletionTimestamp)

	claims := r.shell("claims", "true")
	claims.Spec.NodeName = r.node // a scheduler would wait for the claim
	name := "gpu"
	claims.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: &name}}
	r.create(t, claims)
	seen := r.awaitPhase(t, "claims", corev1.PodFailed)
	assert.Contains(t, seen.Status.Message, "spec.resourceClaims")
}

func (r *room) dropFinalizers(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := cleanupContext(t)
	defer cancel()
	_, err := r.af.CoreV1().Pods(r.namespace).Patch(ctx, name, "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	assert.True(t, err == nil || apierrors.IsNotFound(err), "%v", err)
}

func jobPods(t *testing.T, r *room) {
	three, limit := int32(3), int32(6)
	indexed := batchv1.IndexedCompletion
	spec := r.shell("", `echo "index $JOB_COMPLETION_INDEX"; [ $JOB_COMPLETION_INDEX = 1 ] && exit 42; exit 0`).Spec
	onExit := batchv1.PodFailurePolicyOnExitCodesOpIn
	job, err := r.af.BatchV1().Jobs(r.namespace).Create(t.Context(), &batchv1.Job{
		ObjectMeta: meta("indexed"),
		Spec: batchv1.JobSpec{
			Completions: &three, Parallelism: &three, CompletionMode: &indexed, BackoffLimit: &limit,
			PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
				Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: onExit, Values: []int32{42}},
			}}},
			Template: corev1.PodTemplateSpec{Spec: spec},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	eventually(t.Context(), t, "the exit code fails the Job", func() (bool, string) {
		now, err := r.af.BatchV1().Jobs(r.namespace).Get(t.Context(), "indexed", metav1.GetOptions{})
		require.NoError(t, err)
		for _, condition := range now.Status.Conditions {
			if condition.Type == batchv1.JobFailed && condition.Status == corev1.ConditionTrue {
				return condition.Reason == batchv1.JobReasonPodFailurePolicy, condition.Message
			}
		}
		return false, now.Status.String()
	})
	list, err := r.caas.CoreV1().Pods(r.target).List(t.Context(), metav1.ListOptions{LabelSelector: managed + ",labels.offload.infn.it/batch.kubernetes.io_controller-uid=" + string(job.UID)})
	require.NoError(t, err)
	for _, far := range list.Items {
		assert.Empty(t, far.Finalizers)
		assert.Empty(t, far.OwnerReferences)
		assert.NotContains(t, far.Labels, "batch.kubernetes.io/controller-uid")
	}
	pods, err := r.af.CoreV1().Pods(r.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "job-name=indexed"})
	require.NoError(t, err)
	for i := range pods.Items {
		assert.NotContains(t, pods.Items[i].Finalizers, "batch.kubernetes.io/job-tracking", "the Job has counted it")
	}
}
