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

// Validate reports all problems of the policy at once; prefix is where it stands
// in its file.
func (p *Policy) Validate(prefix string) error {
	var problems []error
	for i := range p.Volumes {
		problems = append(problems, p.Volumes[i].validate(fmt.Sprintf("%s.volumes[%d]", prefix, i)))
	}
	for i := range p.Security {
		problems = append(problems, p.Security[i].validate(fmt.Sprintf("%s.security[%d]", prefix, i)))
	}
	for i := range p.Images {
		problems = append(problems, p.Images[i].validate(fmt.Sprintf("%s.images[%d]", prefix, i)))
	}
	for cluster, dns := range sorted(p.DNS) {
		problems = append(problems, dns.validate(fmt.Sprintf("%s.dns[%s]", prefix, cluster)))
	}
	return errors.Join(slices.Concat(problems, p.validatePlacement(prefix), p.validateClasses(prefix), p.validateMetadata(prefix))...)
}

// validatePlacement is about where pods run, and with what.
func (p *Policy) validatePlacement(prefix string) []error {
	var problems []error
	for from, to := range sorted(p.Resources) {
		for _, name := range []corev1.ResourceName{from, to} {
			if issues := validation.IsQualifiedName(string(name)); len(issues) > 0 {
				problems = append(problems, fmt.Errorf("%s.resources: %q: %s", prefix, name, issues[0]))
			}
		}
	}
	for key, value := range sorted(p.NodeSelector) {
		if issues := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(issues) > 0 {
			problems = append(problems, fmt.Errorf("%s.nodeSelector: %q=%q: %s", prefix, key, value, issues[0]))
		}
	}
	for i, key := range p.KeepNodeSelectorKeys {
		if issues := validation.IsQualifiedName(key); len(issues) > 0 {
			problems = append(problems, fmt.Errorf("%s.keepNodeSelectorKeys[%d]: %q: %s", prefix, i, key, issues[0]))
		}
	}
	for i := range p.Tolerations {
		problems = append(problems, validateToleration(fmt.Sprintf("%s.tolerations[%d]", prefix, i), &p.Tolerations[i]))
	}
	return problems
}

func (p *Policy) validateClasses(prefix string) []error {
	var problems []error
	for field, table := range sorted(map[string]map[string]string{"priorityClasses": p.PriorityClasses, "runtimeClasses": p.RuntimeClasses}) {
		for from, to := range sorted(table) {
			if to != "" && len(validation.IsDNS1123Subdomain(to)) > 0 {
				problems = append(problems, fmt.Errorf("%s.%s[%s]: %q is no name of a class", prefix, field, from, to))
			}
		}
	}
	return problems
}

func validateToleration(at string, toleration *corev1.Toleration) error {
	operators := []corev1.TolerationOperator{"", corev1.TolerationOpEqual, corev1.TolerationOpExists}
	effects := []corev1.TaintEffect{"", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
	var problems []error
	if !slices.Contains(operators, toleration.Operator) {
		problems = append(problems, fmt.Errorf("%s.operator: %q: want Equal or Exists", at, toleration.Operator))
	}
	if !slices.Contains(effects, toleration.Effect) {
		problems = append(problems, fmt.Errorf("%s.effect: %q: want NoSchedule, PreferNoSchedule or NoExecute", at, toleration.Effect))
	}
	if toleration.Key == "" && toleration.Operator != corev1.TolerationOpExists {
		problems = append(problems, fmt.Errorf("%s.key: empty, which only the operator Exists allows", at))
	}
	return errors.Join(problems...)
}

func (p *Policy) validateMetadata(prefix string) []error {
	var problems []error
	for key := range sorted(p.Annotations) {
		if issues := validation.IsQualifiedName(strings.ToLower(key)); len(issues) > 0 {
			problems = append(problems, fmt.Errorf("%s.annotations: %q: %s", prefix, key, issues[0]))
		} else if ownAnnotation(key) {
			problems = append(problems, fmt.Errorf("%s.annotations: %q: is the sidecar's own, by which it knows its pods again", prefix, key))
		}
	}
	return problems
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
	allowed := []string{kindClaim, "hostPath", "csi", "nfs", "emptyDir", "image", "ephemeral"}
	switch {
	case r.Claim != nil && len(set) > 0:
		problems = append(problems, fmt.Errorf("%s: target and claim given, want one of them", at))
	case r.Claim != nil && r.Match.Kind != kindClaim:
		problems = append(problems, fmt.Errorf("%s.claim: only a volume of kind persistentVolumeClaim can have a claim made for it", at))
	case r.Claim == nil && (len(set) != 1 || !slices.Contains(allowed, set[0])):
		problems = append(problems, fmt.Errorf("%s.target: %v given, want exactly one of %v, or a claim beside it", at, set, allowed))
	}
	if r.Claim != nil {
		problems = append(problems, r.Claim.validate(at+".claim"))
	}
	return errors.Join(problems...)
}
