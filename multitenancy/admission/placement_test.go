// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/cloudveneto/caas/multitenancy/admission"
)

func podOf(tb testing.TB, from object) *corev1.Pod {
	tb.Helper()
	made := &corev1.Pod{}
	require.NoError(tb, runtime.DefaultUnstructuredConverter.FromUnstructured(from, made))
	return made
}

// landsOn are the nodes that the scheduler's own code finds right for the pod.
func landsOn(tb testing.TB, made *corev1.Pod) []string {
	tb.Helper()
	var found []string
	for _, node := range []struct{ name, pool string }{
		{"alice-1", "u-" + alice}, {"bob-1", "u-" + bob}, {"shared-1", "p-" + project}, {"foreign-1", "p-other"}, {"bare", ""},
	} {
		candidate := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.name, Labels: map[string]string{corev1.LabelHostname: node.name}}}
		if node.pool != "" {
			candidate.Labels[pool] = node.pool
			candidate.Spec.Taints = []corev1.Taint{{Key: "osn.infn.it/pool", Value: node.pool, Effect: corev1.TaintEffectNoSchedule}}
		}
		fits, err := nodeaffinity.GetRequiredNodeAffinity(made).Match(candidate)
		require.NoError(tb, err)
		if fits && tolerated(made, candidate.Spec.Taints) {
			found = append(found, node.name)
		}
	}
	return found
}

func tolerated(made *corev1.Pod, taints []corev1.Taint) bool {
	for _, taint := range taints {
		ok := false
		for _, toleration := range made.Spec.Tolerations {
			ok = ok || (toleration.Key == taint.Key && toleration.Value == taint.Value && toleration.Effect == taint.Effect)
		}
		if !ok {
			return false
		}
	}
	return true
}

func TestPlacement(t *testing.T) {
	t.Parallel()
	const terms = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
	for name, test := range map[string]struct {
		policy, spec string
		want         []string
	}{
		"P9 private by default":         {"", "", []string{"alice-1"}},
		"private":                       {"private", "", []string{"alice-1"}},
		"G27 shared":                    {"shared", "", []string{"alice-1", "shared-1"}},
		"G30 shared and a node":         {"shared", "nodeSelector: {kubernetes.io/hostname: shared-1}", []string{"shared-1"}},
		"A51 selector of another pool":  {"shared", "nodeSelector: {" + pool + ": u-" + bob + "}", nil},
		"A51 many terms":                {"", terms + "[{matchExpressions: [{key: kubernetes.io/hostname, operator: Exists}]}, {matchExpressions: [{key: " + pool + ", operator: Exists}]}]}}}", []string{"alice-1"}},
		"A51 empty term":                {"", terms + "[{}]}}}", nil},
		"A51 empty term beside another": {"", terms + "[{}, {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [bob-1]}]}]}}}", nil},
		"A51 field of a foreign node":   {"", terms + "[{matchFields: [{key: metadata.name, operator: In, values: [bob-1]}]}]}}}", nil},
		"A51 field of an own node":      {"", terms + "[{matchFields: [{key: metadata.name, operator: In, values: [alice-1]}]}]}}}", []string{"alice-1"}},
		"A51 another's pool":            {"", terms + "[{matchExpressions: [{key: " + pool + ", operator: In, values: [u-" + bob + "]}]}]}}}", nil},
		"A51 wider pool":                {"", terms + "[{matchExpressions: [{key: " + pool + ", operator: In, values: [u-" + bob + ", u-" + alice + "]}]}]}}}", []string{"alice-1"}},
		"A51 preferred only":            {"", "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchFields: [{key: metadata.name, operator: In, values: [bob-1]}]}}]}}", []string{"alice-1"}},
		"A51 tolerated beforehand":      {"", "tolerations: [{key: osn.infn.it/pool, value: u-" + alice + ", effect: NoSchedule}]", []string{"alice-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := pod(t, test.spec)
			if test.policy != "" {
				from["metadata"].(object)["annotations"] = object{"osn.infn.it/policy": test.policy}
			}
			after, response := newWorld(t).decide(t, request{by: user(alice), resource: "core/pods", object: from})
			require.Empty(t, refused(response))
			assert.Equal(t, test.want, landsOn(t, podOf(t, after)))
		})
	}
}

// A pod that another webhook or an old one left unrestricted is refused.
func TestUnplaced(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ spec, want string }{
		"no term":    {"", ".nodeSelectorTerms: the pod is not restricted to nodes of u-" + alice},
		"other term": {"affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: " + pool + ", operator: In, values: [u-" + bob + "]}]}]}}}", ".nodeSelectorTerms[0]: does not restrict the pod to nodes of u-" + alice},
		"no values":  {"affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: " + pool + ", operator: Exists}]}]}}}", ".nodeSelectorTerms[0]: does not restrict the pod to nodes of u-" + alice},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response, err := newWorld(t).Validate(t.Context(), request{by: user(alice), resource: "core/pods", object: of(alice, pod(t, test.spec))}.review(t))
			require.NoError(t, err)
			assert.Contains(t, refused(response), test.want)
		})
	}
}

// A53: the template carries the restriction, and the pod's own, which the controller
// wrote, is narrowed by it.
func TestDaemonSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	after, response := w.decide(t, request{by: user(alice), resource: "apps/daemonsets", object: workload(t, "")})
	require.Empty(t, refused(response))
	template, _ := after["spec"].(object)["template"].(object)
	assert.Equal(t, []string{"alice-1"}, landsOn(t, podOf(t, template)))

	w.own(alice, "apps", "daemonsets", "agent")
	for node, want := range map[string][]string{"alice-1": {"alice-1"}, "bob-1": nil} {
		child := pod(t, "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: ["+node+"]}]}]}}}")
		child["metadata"].(object)["ownerReferences"] = []any{object{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "daemonsets/agent", "controller": true}}
		after, response = w.decide(t, request{by: system("system:serviceaccount:kube-system:daemon-set-controller"), resource: "core/pods", object: child})
		require.Empty(t, refused(response))
		assert.Equal(t, want, landsOn(t, podOf(t, after)))
	}
}

func TestPolicyAnnotation(t *testing.T) {
	t.Parallel()
	build := func(own, template string) object {
		made := workload(t, "")
		if own != "" {
			made["metadata"].(object)["annotations"] = object{"osn.infn.it/policy": own}
		}
		if template != "" {
			made["spec"].(object)["template"].(object)["metadata"].(object)["annotations"] = object{"osn.infn.it/policy": template}
		}
		return made
	}
	for name, test := range map[string]struct {
		object, old object
		want        any
	}{
		"A52 on the workload only": {build("shared", ""), nil, "shared"},
		"A52 on the template only": {build("", "shared"), nil, "shared"},
		"A52 both":                 {build("shared", "private"), nil, "private"},
		"set later":                {build("shared", ""), build("", ""), "shared"},
		"a copy follows":           {build("private", "shared"), build("shared", "shared"), "private"},
		"a copy goes":              {build("", "shared"), build("shared", "shared"), nil},
		"the user's own stays":     {build("", "shared"), build("", "shared"), "shared"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := request{by: user(alice), resource: "apps/deployments", object: test.object}
			if test.old != nil {
				r.operation, r.old = admissionv1.Update, of(alice, test.old)
			}
			after, response := newWorld(t).decide(t, r)
			require.Empty(t, refused(response))
			annotations, _ := after["spec"].(object)["template"].(object)["metadata"].(object)["annotations"].(object)
			assert.Equal(t, test.want, annotations["osn.infn.it/policy"])
		})
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	shared := pod(t, "")
	shared["metadata"].(object)["annotations"] = object{"osn.infn.it/policy": "shared"}
	_, response := w.decide(t, request{by: user(alice), resource: "core/pods", object: pod(t, "")})
	assert.Empty(t, response.Warnings)
	w.now = w.now.Add(10 * time.Second) // the name is not kept for alice any longer
	_, response = w.decide(t, request{by: user(bob), resource: "core/pods", object: pod(t, "")})
	require.Len(t, response.Warnings, 1)
	assert.Contains(t, response.Warnings[0], "no node of yours is ready")
	_, response = w.decide(t, request{by: user(bob), resource: "core/pods", object: shared})
	require.Len(t, response.Warnings, 2)
	w.nodes.Put("shared-1", "p-"+project, true)
	_, response = w.decide(t, request{by: user(bob), resource: "core/pods", object: shared})
	require.Len(t, response.Warnings, 1)
	assert.Contains(t, response.Warnings[0], "whose owners can access them")
	w.nodes.Put("shared-1", "p-"+project, false)
	w.nodes.Delete("alice-1")
	w.now = w.now.Add(10 * time.Second)
	_, response = w.decide(t, request{by: user(alice), resource: "core/pods", object: shared})
	assert.Len(t, response.Warnings, 2)
}

// On private nodes a site may allow more, on shared ones never.
func TestPrivileged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(rules *admission.Rules) { rules.PrivateNodes = "privileged" })
	private, shared := pod(t, "hostNetwork: true"), pod(t, "hostNetwork: true")
	shared["metadata"].(object)["annotations"] = object{"osn.infn.it/policy": "shared"}
	_, response := w.decide(t, request{by: user(alice), resource: "core/pods", object: private})
	assert.Empty(t, refused(response))
	_, response = w.decide(t, request{by: user(alice), resource: "core/pods", object: shared})
	assert.Equal(t, "spec.hostNetwork is not allowed", refused(response))
}

// A54: a pod that waits may be restricted further, and tolerations may be added to any.
func TestPodUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stored, response := w.decide(t, request{by: user(alice), resource: "core/pods", object: pod(t, "schedulingGates: [{name: example.org/wait}]")})
	require.Empty(t, refused(response))
	for name, test := range map[string]struct {
		change func(spec object)
		want   string
	}{
		"nothing":     {func(object) {}, ""},
		"gate gone":   {func(spec object) { delete(spec, "schedulingGates") }, ""},
		"affinity":    {func(spec object) { delete(spec, "affinity") }, "the pod is not restricted"},
		"toleration":  {func(spec object) { spec["tolerations"] = []any{object{"operator": "Exists"}} }, "tolerating every taint is not allowed"},
		"foreign ref": {func(spec object) { spec["imagePullSecrets"] = []any{object{"name": "bobs"}} }, `secrets "bobs": not found or not yours`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := runtime.DeepCopyJSON(stored)
			test.change(changed["spec"].(object))
			_, response := w.decide(t, request{by: user(alice), operation: admissionv1.Update, resource: "core/pods", object: changed, old: stored})
			if test.want == "" {
				assert.Empty(t, refused(response))
			} else {
				assert.Contains(t, refused(response), test.want)
			}
		})
	}
}
