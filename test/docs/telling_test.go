// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

const (
	device     = corev1.ResourceName("example.org/device")
	capability = corev1.Capability("SYS_ADMIN")
)

// telling are values that show what becomes of a field where a filled one would not: fields that have tables of their
// own, and fields of which only some values are touched.
func telling() map[string]any {
	devices := corev1.ResourceList{device: resource.MustParse("1"), corev1.ResourceCPU: resource.MustParse("2")}
	name := corev1.LocalObjectReference{Name: word}
	field := &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}
	env := []corev1.EnvVar{{Name: "NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: field}}}
	containers := []corev1.Container{{Name: "main", Image: "example.org/main:1", Env: env}}
	return map[string]any{
		"PodSpec.volumes": []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name},
		}}},
		"PodSpec.containers": containers, "PodSpec.initContainers": containers,
		"PodSpec.dnsPolicy":    corev1.DNSClusterFirstWithHostNet,
		"PodSpec.nodeSelector": map[string]string{corev1.LabelArchStable: "amd64", word: word},
		"PodSpec.tolerations": []corev1.Toleration{
			{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists}, {Key: word, Operator: corev1.TolerationOpExists},
		},
		"PodSpec.resources": &corev1.ResourceRequirements{Limits: devices},

		"Container.ports":           []corev1.ContainerPort{{ContainerPort: 8888, HostIP: "127.0.0.1"}},
		"Container.env":             env,
		"Container.envFrom":         []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name}}},
		"Container.resources":       corev1.ResourceRequirements{Limits: devices},
		"Container.securityContext": &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{capability}}},

		"ResourceRequirements.limits": devices, "ResourceRequirements.requests": devices,
		"EnvVar.valueFrom":             &corev1.EnvVarSource{FieldRef: field},
		"EnvVarSource.fieldRef":        field,
		"SecurityContext.capabilities": &corev1.Capabilities{Add: []corev1.Capability{capability}},
		"VolumeProjection.clusterTrustBundle": &corev1.ClusterTrustBundleProjection{
			Name: new(word), Path: "bundle.pem",
		},
		"VolumeSource.projected": &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
			ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: word},
		}}},

		"PodStatus.hostIP": "192.0.2.1", "PodStatus.podIP": "fd00::1",
	}
}

// site is a policy that uses everything that a policy can say of a field.
func site() *translate.Policy {
	policy := &translate.Policy{
		Resources:            map[corev1.ResourceName]corev1.ResourceName{device: "example.org/ours"},
		KeepNodeSelectorKeys: []string{corev1.LabelArchStable, word},
		KeepNodeAffinity:     true,
		PriorityClasses:      map[string]string{word: "ours"},
		RuntimeClasses:       map[string]string{word: "ours"},
		AllowPrivileged:      true,
		RefusedCapabilities:  []corev1.Capability{capability},
		DNS:                  map[string]translate.ClusterDNS{"*": {Nameservers: []string{"10.96.0.10"}}},
		Images:               []translate.ImageRule{{Match: "*", Replace: "registry.example.org"}},
	}
	for _, field := range translate.SecurityFields() {
		action := translate.SecurityRefuse
		if field == translate.SecurityEscalation {
			action = translate.SecurityStrip // every container may escalate that does not say otherwise
		}
		policy.Security = append(policy.Security, translate.SecurityRule{Field: field, Action: action})
	}
	for kind, class := range translate.VolumeFields() {
		if class == translate.Refused {
			policy.Volumes = append(policy.Volumes, translate.VolumeRule{
				Match:  translate.VolumeMatch{Kind: kind},
				Target: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "ours"}},
			})
		}
	}
	return policy
}
