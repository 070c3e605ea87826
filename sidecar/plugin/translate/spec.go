// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// spec builds the created pod's spec. It names every field that it copies: what is
// not named here does not travel.
func (t *translation) spec() corev1.PodSpec {
	from := t.pod.Spec.DeepCopy()
	t.refuseHost(from)
	t.dropMetadata()
	t.dropClusterLocal(from)
	none := false
	spec := corev1.PodSpec{
		RestartPolicy:                 from.RestartPolicy,
		TerminationGracePeriodSeconds: from.TerminationGracePeriodSeconds,
		ActiveDeadlineSeconds:         from.ActiveDeadlineSeconds,
		ShareProcessNamespace:         from.ShareProcessNamespace,
		SecurityContext:               t.podSecurity(from.SecurityContext),
		Subdomain:                     from.Subdomain,
		SetHostnameAsFQDN:             from.SetHostnameAsFQDN,
		HostnameOverride:              from.HostnameOverride,
		HostAliases:                   from.HostAliases,
		OS:                            from.OS,
		HostUsers:                     t.hostUsers(from.HostUsers),
		AutomountServiceAccountToken:  &none,
		EnableServiceLinks:            &none,
		Hostname:                      t.hostname(),
		NodeSelector:                  t.nodeSelector(from),
		Affinity:                      t.affinity(from),
		Tolerations:                   t.tolerations(from),
		PriorityClassName:             t.class("spec.priorityClassName", from.PriorityClassName, t.policy.PriorityClasses),
		ImagePullSecrets:              t.pullSecrets(from.ImagePullSecrets),
		Volumes:                       t.volumes(from.Volumes),
		InitContainers:                t.containers("spec.initContainers", from.InitContainers),
		Containers:                    t.containers("spec.containers", from.Containers),
	}
	if from.RuntimeClassName != nil {
		if class := t.class("spec.runtimeClassName", *from.RuntimeClassName, t.policy.RuntimeClasses); class != "" {
			spec.RuntimeClassName = &class
		}
	}
	if from.Resources != nil {
		resources := t.resources("spec.resources", *from.Resources)
		spec.Resources = &resources
	}
	spec.DNSPolicy, spec.DNSConfig = t.dns(from)
	return spec
}

func (t *translation) refuseHost(from *corev1.PodSpec) {
	for field, set := range map[string]bool{
		"spec.hostNetwork": from.HostNetwork, "spec.hostPID": from.HostPID, "spec.hostIPC": from.HostIPC,
	} {
		if set {
			t.refuse(Problem{
				Field: field, Value: "true", Rule: "an offloaded pod cannot use the node's namespaces",
				Remedy: "remove the field",
			})
		}
	}
	if len(from.ResourceClaims) > 0 {
		t.refuse(Problem{
			Field: "spec.resourceClaims", Value: from.ResourceClaims[0].Name,
			Rule:   "a resource claim is an object of the origin cluster",
			Remedy: "ask for the device by an extended resource in resources.limits",
		})
	}
	// Map iteration above has no order; users compare messages.
	slices.SortStableFunc(t.problems, func(a, b Problem) int { return strings.Compare(a.Field, b.Field) })
}

// dropClusterLocal records fields that mean something in the origin cluster only.
func (t *translation) dropClusterLocal(from *corev1.PodSpec) {
	t.dropIf(len(from.EphemeralContainers) > 0, "spec.ephemeralContainers", "cannot be part of a new pod")
	t.dropIf(from.SchedulerName != "" && from.SchedulerName != corev1.DefaultSchedulerName, "spec.schedulerName", from.SchedulerName)
	t.dropIf(from.Priority != nil && *from.Priority != 0, "spec.priority", "priorities are those of the target cluster")
	t.dropIf(from.PreemptionPolicy != nil && *from.PreemptionPolicy != corev1.PreemptLowerPriority, "spec.preemptionPolicy", "follows the target cluster's priority class")
	t.dropIf(len(from.ReadinessGates) > 0, "spec.readinessGates", "their conditions are set in the origin cluster")
	t.dropIf(len(from.Overhead) > 0, "spec.overhead", "follows the target cluster's runtime class")
	t.dropIf(len(from.TopologySpreadConstraints) > 0, "spec.topologySpreadConstraints", "topology and labels are the origin cluster's")
	t.dropIf(len(from.SchedulingGates) > 0, "spec.schedulingGates", "belong to the origin cluster's controllers")
	set := setFields(from)
	for _, field := range []string{"schedulingGroup", "evictionResponders"} {
		t.dropIf(slices.Contains(set, field), "spec."+field, "belongs to the origin cluster's controllers")
	}
	t.accounts(from)
}

func (t *translation) dropIf(set bool, field, detail string) {
	if set {
		t.dropped(field, detail)
	}
}

// hostname gives the pod the name that it would have at its origin, where the
// kubelet cuts a long pod name; a remote pod's own name has a hash in it.
func (t *translation) hostname() string {
	if t.pod.Spec.Hostname != "" {
		return t.pod.Spec.Hostname
	}
	name := t.pod.Name
	if len(name) > maxName {
		name = strings.TrimRight(name[:maxName], "-.")
	}
	if strings.Contains(name, ".") {
		// A host name is a DNS label in the API, though a pod name need not be one.
		name = strings.ReplaceAll(name, ".", "-")
		t.mapped("spec.hostname", name)
	}
	return name
}

func (t *translation) nodeSelector(from *corev1.PodSpec) map[string]string {
	keep := t.policy.KeepNodeSelectorKeys
	if keep == nil {
		keep = []string{corev1.LabelArchStable, corev1.LabelOSStable}
	}
	selector := map[string]string{}
	for key, value := range from.NodeSelector {
		if slices.Contains(keep, key) {
			selector[key] = value
		}
	}
	kept := slices.Collect(maps.Keys(selector))
	for _, key := range slices.Sorted(maps.Keys(from.NodeSelector)) {
		if theirs, wanted, ok := labelOfValue(keep, key, from.NodeSelector[key]); ok {
			selector[theirs] = wanted
			kept = append(kept, key)
			t.mapped("spec.nodeSelector", key+" to "+theirs+"="+wanted)
		}
	}
	if len(from.NodeSelector) > len(kept) {
		left := beyond(slices.Sorted(maps.Keys(from.NodeSelector)), kept)
		t.dropped("spec.nodeSelector", "labels of the origin's nodes: "+strings.Join(left, ", "))
	}
	t.placed(selector)
	maps.Copy(selector, t.policy.NodeSelector)
	if len(selector) == 0 {
		return nil
	}
	return selector
}

func (t *translation) affinity(from *corev1.PodSpec) *corev1.Affinity {
	if from.Affinity == nil {
		return nil
	}
	t.dropIf(from.Affinity.PodAffinity != nil, "spec.affinity.podAffinity", "selects labels of the origin's pods")
	t.dropIf(from.Affinity.PodAntiAffinity != nil, "spec.affinity.podAntiAffinity", "selects labels of the origin's pods")
	if from.Affinity.NodeAffinity == nil {
		return nil
	}
	if t.policy.KeepNodeAffinity {
		return &corev1.Affinity{NodeAffinity: from.Affinity.NodeAffinity}
	}
	t.dropped("spec.affinity.nodeAffinity", "selects labels of the origin's nodes")
	return nil
}

// tolerations keeps those for taints that every cluster sets by itself.
func (t *translation) tolerations(from *corev1.PodSpec) []corev1.Toleration {
	var kept []corev1.Toleration
	left := 0
	for _, toleration := range from.Tolerations {
		if strings.HasPrefix(toleration.Key, "node.kubernetes.io/") {
			kept = append(kept, toleration)
		} else {
			left++
		}
	}
	t.dropIf(left > 0, "spec.tolerations", fmt.Sprintf("%d of %d are for taints of the origin's nodes", left, len(from.Tolerations)))
	return append(kept, t.policy.Tolerations...)
}

// class maps the name of a cluster-wide class by the policy's table.
func (t *translation) class(field, name string, table map[string]string) string {
	if name == "" {
		return ""
	}
	target, known := table[name]
	if !known || target == "" {
		t.dropped(field, name)
		return ""
	}
	t.mapped(field, name+" to "+target)
	return target
}
