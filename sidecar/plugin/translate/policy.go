// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
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
	// RefusedCapabilities may not be added by a container, for instance SYS_ADMIN.
	RefusedCapabilities []corev1.Capability `json:"refusedCapabilities,omitempty"`
	// DNS names the origin clusters' DNS servers by cluster id; "*" is any other cluster.
	DNS map[string]ClusterDNS `json:"dns,omitempty"`
}

// VolumeRule maps one kind of volume to a volume of the target cluster.
type VolumeRule struct {
	Match  VolumeMatch         `json:"match"`
	Target corev1.VolumeSource `json:"target"`
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
	// StorageClass is that of a generic ephemeral volume.
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

// Validate reports all problems of the policy at once; prefix is where it stands
// in its file.
func (p *Policy) Validate(prefix string) error {
	var problems []error
	for i, rule := range p.Volumes {
		problems = append(problems, rule.validate(fmt.Sprintf("%s.volumes[%d]", prefix, i)))
	}
	for from, to := range p.Resources {
		for _, name := range []corev1.ResourceName{from, to} {
			if issues := validation.IsQualifiedName(string(name)); len(issues) > 0 {
				problems = append(problems, fmt.Errorf("%s.resources: %q: %s", prefix, name, issues[0]))
			}
		}
	}
	for key, value := range p.NodeSelector {
		if issues := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(issues) > 0 {
			problems = append(problems, fmt.Errorf("%s.nodeSelector: %q=%q: %s", prefix, key, value, issues[0]))
		}
	}
	for key := range p.Annotations {
		if issues := validation.IsQualifiedName(strings.ToLower(key)); len(issues) > 0 {
			problems = append(problems, fmt.Errorf("%s.annotations: %q: %s", prefix, key, issues[0]))
		} else if ownAnnotation(key) {
			problems = append(problems, fmt.Errorf("%s.annotations: %q: is the sidecar's own, by which it knows its pods again", prefix, key))
		}
	}
	for cluster, dns := range p.DNS {
		problems = append(problems, dns.validate(fmt.Sprintf("%s.dns[%s]", prefix, cluster)))
	}
	return errors.Join(problems...)
}

func (d ClusterDNS) validate(at string) error {
	var problems []error
	if len(d.Nameservers) == 0 || len(d.Nameservers) > 3 {
		problems = append(problems, fmt.Errorf("%s.nameservers: %d given, want one to three", at, len(d.Nameservers)))
	}
	for _, server := range d.Nameservers {
		if _, err := netip.ParseAddr(server); err != nil {
			problems = append(problems, fmt.Errorf("%s.nameservers: %q is no IP address", at, server))
		}
	}
	if d.Domain != "" && len(validation.IsDNS1123Subdomain(d.Domain)) > 0 {
		problems = append(problems, fmt.Errorf("%s.domain: %q is no DNS name", at, d.Domain))
	}
	return errors.Join(problems...)
}

func (r *VolumeRule) validate(at string) error {
	var problems []error
	if !slices.Contains(refusedVolumes(), r.Match.Kind) {
		problems = append(problems, fmt.Errorf("%s.match.kind: %q is no volume source that can be mapped (for instance persistentVolumeClaim, hostPath, nfs, csi, ephemeral)", at, r.Match.Kind))
	}
	for _, pattern := range []string{
		r.Match.Namespace, r.Match.Name, r.Match.Path, r.Match.Server,
		r.Match.Driver, r.Match.StorageClass, r.Match.Image,
	} {
		if _, err := path.Match(pattern, ""); err != nil {
			problems = append(problems, fmt.Errorf("%s.match: pattern %q: %w", at, pattern, err))
		}
	}
	set := setFields(&r.Target)
	allowed := []string{"persistentVolumeClaim", "hostPath", "csi", "nfs", "emptyDir", "image", "ephemeral"}
	if len(set) != 1 || !slices.Contains(allowed, set[0]) {
		problems = append(problems, fmt.Errorf("%s.target: %v given, want exactly one of %v", at, set, allowed))
	}
	return errors.Join(problems...)
}
