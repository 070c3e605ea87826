// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// insecure is a pod that sets whatever rules can be about.
func insecure() translate.Request {
	return request(func(pod *corev1.Pod) {
		unconfined := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}
		appArmor := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
		selinux := &corev1.SELinuxOptions{Type: "spc_t"}
		pod.Annotations["container.apparmor.security.beta.kubernetes.io/main"] = "unconfined"
		pod.Spec.HostUsers = new(false)
		pod.Spec.SecurityContext = &corev1.PodSecurityContext{
			RunAsUser: new(int64(0)), RunAsGroup: new(int64(0)), RunAsNonRoot: new(false), FSGroup: new(int64(0)),
			SupplementalGroups: []int64{0, 5}, Sysctls: []corev1.Sysctl{{Name: "net.core.somaxconn", Value: "1"}, {Name: "kernel.shm_rmid_forced", Value: "1"}},
			SeccompProfile: unconfined, AppArmorProfile: appArmor, SELinuxOptions: selinux,
		}
		pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			RunAsUser: new(int64(0)), RunAsGroup: new(int64(0)), RunAsNonRoot: new(false), AllowPrivilegeEscalation: new(true),
			Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_BIND_SERVICE", "sys_admin"}, Drop: []corev1.Capability{"ALL"}},
			ProcMount:    new(corev1.UnmaskedProcMount), SeccompProfile: unconfined, AppArmorProfile: appArmor, SELinuxOptions: selinux,
		}
	})
}

// rules give every field the same action.
func rules(action translate.SecurityAction) *translate.Policy {
	policy := &translate.Policy{}
	for _, field := range translate.SecurityFields() {
		policy.Security = append(policy.Security, translate.SecurityRule{Field: field, Action: action})
	}
	return policy
}

func TestSecurityIsKeptWithoutRules(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]*translate.Policy{"none": {}, "allow": rules(translate.SecurityAllow)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := insecure()
			result := translated(t, r, policy)
			assert.Equal(t, r.Pod.Spec.SecurityContext, result.Pod.Spec.SecurityContext)
			assert.Equal(t, r.Pod.Spec.Containers[0].SecurityContext, result.Pod.Spec.Containers[0].SecurityContext)
			assert.Equal(t, r.Pod.Spec.HostUsers, result.Pod.Spec.HostUsers)
			assert.Contains(t, result.Pod.Annotations, "container.apparmor.security.beta.kubernetes.io/main")
		})
	}
}

func TestSecurityIsStripped(t *testing.T) {
	t.Parallel()
	r := insecure()
	before := r.Pod.DeepCopy()
	policy := rules(translate.SecurityStrip)
	require.NoError(t, policy.Validate("policy"))
	result := translated(t, r, policy)
	assert.Equal(t, before, r.Pod, "the request is not changed")
	spec, standard := result.Pod.Spec, &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	assert.Equal(t, &corev1.PodSecurityContext{SeccompProfile: standard, SupplementalGroups: []int64{}, Sysctls: []corev1.Sysctl{}}, spec.SecurityContext)
	assert.Equal(t, &corev1.SecurityContext{
		SeccompProfile: standard, AllowPrivilegeEscalation: new(false),
		Capabilities: &corev1.Capabilities{Add: []corev1.Capability{}, Drop: []corev1.Capability{"ALL"}},
	}, spec.Containers[0].SecurityContext)
	assert.Nil(t, spec.HostUsers)
	assert.NotContains(t, result.Pod.Annotations, "container.apparmor.security.beta.kubernetes.io/main")
	at, pod := "spec.containers[main].securityContext.", "spec.securityContext."
	assert.Subset(t, reported(result.Report, translate.ActionDropped), []string{
		at + "runAsUser", at + "runAsGroup", at + "runAsNonRoot", at + "capabilities.add", at + "procMount", at + "seLinuxOptions", at + "appArmorProfile",
		pod + "runAsUser", pod + "runAsGroup", pod + "runAsNonRoot", pod + "fsGroup", pod + "supplementalGroups", pod + "sysctls",
		pod + "seLinuxOptions", pod + "appArmorProfile", "spec.hostUsers", "metadata.annotations[container.apparmor.security.beta.kubernetes.io/main]",
	})
	assert.Subset(t, reported(result.Report, translate.ActionMapped), []string{at + "seccompProfile", pod + "seccompProfile", at + "allowPrivilegeEscalation"})
}

func TestSecurityIsRefused(t *testing.T) {
	t.Parallel()
	_, err := translate.Pod(insecure(), rules(translate.SecurityRefuse))
	var refusal *translate.RefusalError
	require.ErrorAs(t, err, &refusal)
	named := map[string]int{}
	for _, problem := range refusal.Problems {
		named[problem.Field]++
		assert.NotEmpty(t, problem.Value)
		assert.Contains(t, problem.Rule, "policy.security[")
		assert.NotEmpty(t, problem.Remedy)
	}
	at, pod := "spec.containers[main].securityContext.", "spec.securityContext."
	assert.Equal(t, map[string]int{
		at + "runAsUser": 1, at + "runAsGroup": 1, at + "runAsNonRoot": 1, at + "capabilities.add": 2, at + "procMount": 1,
		at + "seLinuxOptions": 1, at + "appArmorProfile": 1, at + "seccompProfile": 1, at + "allowPrivilegeEscalation": 1,
		pod + "runAsUser": 1, pod + "runAsGroup": 1, pod + "runAsNonRoot": 1, pod + "fsGroup": 1, pod + "supplementalGroups": 2, pod + "sysctls": 2,
		pod + "seLinuxOptions": 1, pod + "appArmorProfile": 1, pod + "seccompProfile": 1, "spec.hostUsers": 1,
		"metadata.annotations[container.apparmor.security.beta.kubernetes.io/main]": 1,
	}, named)
}

func TestSecurityRulesByValue(t *testing.T) {
	t.Parallel()
	container := func(change func(*corev1.SecurityContext)) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{}
			change(pod.Spec.Containers[0].SecurityContext)
		}
	}
	add := func(names ...corev1.Capability) func(*corev1.Pod) {
		return container(func(c *corev1.SecurityContext) { c.Capabilities = &corev1.Capabilities{Add: names} })
	}
	policy := &translate.Policy{
		RefusedCapabilities: []corev1.Capability{"SYS_MODULE"},
		Security: []translate.SecurityRule{
			{Field: translate.SecurityRunAsUser, Values: []string{"0"}, Action: translate.SecurityRefuse},
			{Field: translate.SecurityCapabilities, Values: []string{"NET_*"}, Action: translate.SecurityAllow},
			{Field: translate.SecurityCapabilities, Values: []string{"CAP_SYS_ADMIN"}, Action: translate.SecurityRefuse},
			{Field: translate.SecuritySeccomp, Values: []string{"Localhost/site/*"}, Action: translate.SecurityAllow},
			{Field: translate.SecuritySeccomp, Values: []string{"Localhost/*/*", "Unconfined"}, Action: translate.SecurityRefuse},
			{Field: translate.SecurityEscalation, Values: []string{"true"}, Action: translate.SecurityStrip},
		},
	}
	require.NoError(t, policy.Validate("policy"))
	profile := func(name string) func(*corev1.Pod) {
		return container(func(c *corev1.SecurityContext) {
			c.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: &name}
		})
	}
	for name, test := range map[string]struct {
		change  func(*corev1.Pod)
		refused string
	}{
		"root":                   {container(func(c *corev1.SecurityContext) { c.RunAsUser = new(int64(0)) }), `runAsUser = "0"`},
		"somebody":               {container(func(c *corev1.SecurityContext) { c.RunAsUser = new(int64(1000)) }), ""},
		"allowed capability":     {add("NET_RAW"), ""},
		"another capability":     {add("SYS_TIME"), ""},
		"refused capability":     {add("SYS_ADMIN"), `capabilities.add = "SYS_ADMIN"`},
		"in small letters":       {add("sys_admin"), "policy.security[2]"},
		"all capabilities":       {add("ALL"), "policy.security[2]"},
		"by the other list":      {add("cap_sys_module"), "policy.refusedCapabilities"},
		"all, by the other list": {add("all"), "policy.refusedCapabilities"},
		"allowed profile":        {profile("site/a"), ""},
		"other profile":          {profile("mine/a"), "policy.security[4]"},
		"nothing set":            {func(*corev1.Pod) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := translate.Pod(request(test.change), policy)
			if test.refused != "" {
				assert.ErrorContains(t, err, test.refused)
				return
			}
			require.NoError(t, err)
			assert.False(t, *result.Pod.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation, "also where nothing is set")
		})
	}
}

func TestSecurityOfEphemeralContainers(t *testing.T) {
	t.Parallel()
	r := request(func(pod *corev1.Pod) {
		pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "debug", SecurityContext: &corev1.SecurityContext{RunAsUser: new(int64(0))},
		}}}
	})
	_, err := translate.Ephemeral(r, rules(translate.SecurityRefuse))
	assert.ErrorContains(t, err, "spec.ephemeralContainers[debug].securityContext.runAsUser")
}

func TestPolicyNamesAllProblems(t *testing.T) {
	t.Parallel()
	policy := &translate.Policy{
		Security: []translate.SecurityRule{
			{Field: "runAs", Action: translate.SecurityRefuse},
			{Field: translate.SecuritySysctls, Action: "drop"},
			{Field: translate.SecuritySysctls, Values: []string{"[x"}, Action: translate.SecurityStrip},
		},
		Tolerations:     []corev1.Toleration{{Operator: "In", Effect: "Never"}},
		PriorityClasses: map[string]string{"high": "Our Own"}, RuntimeClasses: map[string]string{"nvidia": "a b"},
		KeepNodeSelectorKeys: []string{"a b"},
	}
	err := policy.Validate("policy")
	for _, want := range []string{
		`policy.security[0].field: "runAs"`, `policy.security[1].action: "drop"`, "policy.security[2].values[0]",
		"policy.tolerations[0].operator", "policy.tolerations[0].effect", "policy.tolerations[0].key",
		"policy.priorityClasses[high]", "policy.runtimeClasses[nvidia]", "policy.keepNodeSelectorKeys[0]",
	} {
		assert.ErrorContains(t, err, want)
	}
}
