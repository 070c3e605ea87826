// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Policy is what a site decides about offloaded pods. Its zero value is usable:
// nothing of the origin cluster's infrastructure is taken over.
type Policy struct {
	// Volumes map volumes that name something of the origin cluster; the first match holds.
	Volumes []VolumeRule `json:"volumes,omitempty"`
	// Resources renames resources: origin name to target name.
	Resources map[corev1.ResourceName]corev1.ResourceName `json:"resources,omitempty"`
	// NodeSelector is added to every pod.
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// Annotations are added to every pod, in place of the pod's own.
	Annotations map[string]string `json:"annotations,omitempty"`
	// KeepNodeSelectorKeys are kept from the pod; default kubernetes.io/arch and kubernetes.io/os.
	KeepNodeSelectorKeys []string `json:"keepNodeSelectorKeys,omitempty"`
	// KeepNodeAffinity keeps the pod's node affinity; pod affinity is always dropped.
	KeepNodeAffinity bool `json:"keepNodeAffinity,omitempty"`
	// Tolerations are added to every pod.
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// PriorityClasses, RuntimeClasses map origin names to target names; others are dropped.
	PriorityClasses map[string]string `json:"priorityClasses,omitempty"`
	RuntimeClasses  map[string]string `json:"runtimeClasses,omitempty"`
	// AllowPrivileged lets privileged containers pass.
	AllowPrivileged bool `json:"allowPrivileged,omitempty"`
	// RefusedCapabilities may not be added by a container, for instance SYS_ADMIN; with
	// any, ALL is refused, too.
	RefusedCapabilities []corev1.Capability `json:"refusedCapabilities,omitempty"`
	// Security allows, strips or refuses settings of security contexts; the first match
	// holds, and what nothing matches is kept.
	Security []SecurityRule `json:"security,omitempty"`
	// Images puts other images in place of those that pods name; the first match holds.
	Images []ImageRule `json:"images,omitempty"`
	// DNS names the origin clusters' DNS servers by cluster id; "*" is any other cluster.
	DNS map[string]ClusterDNS `json:"dns,omitempty"`
}

// VolumeRule maps one kind of volume to a volume of the target cluster: either to
// Target, or to a claim that is made for it.
type VolumeRule struct {
	Match  VolumeMatch         `json:"match"`
	Target corev1.VolumeSource `json:"target"`
	Claim  *ClaimRule          `json:"claim,omitempty"`
}

// VolumeMatch selects volumes; empty fields match anything, others are glob
// patterns in which * stops at a slash.
type VolumeMatch struct {
	// Kind is the JSON name of the volume source, for instance persistentVolumeClaim.
	Kind string `json:"kind"`
	// Namespace is the pod's namespace at its origin.
	Namespace string `json:"namespace,omitempty"`
	// Name is the claim's name, otherwise the volume's.
	Name string `json:"name,omitempty"`
	// Path is that of a hostPath or of an NFS export.
	Path string `json:"path,omitempty"`
	// Server is an NFS server.
	Server string `json:"server,omitempty"`
	// Driver is a CSI driver.
	Driver string `json:"driver,omitempty"`
	// StorageClass is that of a generic ephemeral volume, or of a claim whose virtual
	// kubelet tells it; without that a rule with a storage class does not match.
	StorageClass string `json:"storageClass,omitempty"`
	// Image is the reference of an image volume.
	Image string `json:"image,omitempty"`
}

// ClusterDNS is the DNS of an origin cluster, as reachable from the target cluster.
type ClusterDNS struct {
	Nameservers []string `json:"nameservers"`
	// Domain is the cluster domain; default cluster.local.
	Domain string `json:"domain,omitempty"`
}

// MakesClaims tells whether claims are made in the target cluster.
func (p *Policy) MakesClaims() bool {
	return slices.ContainsFunc(p.Volumes, func(rule VolumeRule) bool { return rule.Claim != nil })
}

// AsksAboutClaims tells whether it matters what an origin knows of its claims.
func (p *Policy) AsksAboutClaims() bool {
	return slices.ContainsFunc(p.Volumes, func(rule VolumeRule) bool {
		return rule.Claim != nil || (rule.Match.Kind == kindClaim && rule.Match.StorageClass != "")
	})
}
