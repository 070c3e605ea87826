// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	userPrefix, projectPrefix = "u-", "p-"
	// hashPrefix marks an identifier that stands for one that a label cannot hold.
	hashPrefix = "h-"
	hashLength = 52
)

// PoolValue says whose pods may run on the node: u- with the owner's id on a private
// node, p- with the project's on a shared one. It is the value of the protected pool
// label and of the pool taint, and empty when the owner or the policy is not known.
func PoolValue(osn *osnodev1.OpenStackNode) string {
	switch osn.Spec.Policy {
	case osnodev1.PolicyPrivate:
		return poolValue(userPrefix, osn.Labels[osnodev1.LabelUserID])
	case osnodev1.PolicyShared:
		return poolValue(projectPrefix, osn.Labels[osnodev1.LabelProjectID])
	default:
		return ""
	}
}

func poolValue(prefix, id string) string {
	if id == "" {
		return ""
	}
	if value := prefix + id; isLabelValue(value) {
		return value
	}
	// An id may fill a label to its last character, and the prefix then has no room.
	return prefix + hashPrefix + hash(id)
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))[:hashLength]
}

// Labels are those that the Node must have, whatever else it has. They need no virtual
// machine, so they also tell what a node that is only planned would be like.
func Labels(osn *osnodev1.OpenStackNode, pool *osnodev1.OpenStackNodePool) map[string]string {
	labels := templateLabels(pool)
	maps.Copy(labels, ownLabels(osn))
	return labels
}

// ownLabels leaves out what has no value, or one that a label cannot hold: a zone may
// have any name.
func ownLabels(osn *osnodev1.OpenStackNode) map[string]string {
	owner := osn.Labels
	labels := map[string]string{
		corev1.LabelHostname:       osn.Status.NodeID,
		corev1.LabelTopologyRegion: osn.Spec.Region,
		corev1.LabelTopologyZone:   osn.Spec.AvailabilityZone,

		osnodev1.LabelUserID:      owner[osnodev1.LabelUserID],
		osnodev1.LabelUserName:    owner[osnodev1.LabelUserName],
		osnodev1.LabelProjectID:   owner[osnodev1.LabelProjectID],
		osnodev1.LabelProjectName: owner[osnodev1.LabelProjectName],
		osnodev1.LabelPool:        owner[osnodev1.LabelPool],
		osnodev1.LabelPolicy:      string(osn.Spec.Policy),
		osnodev1.LabelGPU:         gpu(osn),

		osnodev1.NodeLabelPool:      PoolValue(osn),
		osnodev1.NodeLabelUserID:    owner[osnodev1.LabelUserID],
		osnodev1.NodeLabelProjectID: owner[osnodev1.LabelProjectID],
		osnodev1.NodeLabelPolicy:    string(osn.Spec.Policy),
		osnodev1.NodeLabelOSNode:    string(osn.UID),
		osnodev1.NodeLabelNamespace: osn.Namespace,
		osnodev1.NodeLabelName:      osn.Name,
	}
	maps.DeleteFunc(labels, func(_, value string) bool { return value == "" || !isLabelValue(value) })
	return labels
}

func gpu(osn *osnodev1.OpenStackNode) string {
	if osn.Status.Resolved == nil {
		return ""
	}
	return osn.Status.Resolved.GPU
}

func templateLabels(pool *osnodev1.OpenStackNodePool) map[string]string {
	labels := map[string]string{}
	if pool == nil {
		return labels
	}
	for key, value := range pool.Spec.Template.Labels {
		if usableKey(key) && isLabelValue(value) {
			labels[key] = value
		}
	}
	return labels
}

// Taints are those that the Node must have for as long as it exists.
func Taints(osn *osnodev1.OpenStackNode, pool *osnodev1.OpenStackNodePool) []corev1.Taint {
	var taints []corev1.Taint
	if value := PoolValue(osn); value != "" {
		taints = append(taints, corev1.Taint{Key: osnodev1.TaintPool, Value: value, Effect: corev1.TaintEffectNoSchedule})
	}
	if pool == nil {
		return taints
	}
	for _, taint := range pool.Spec.Template.Taints {
		if usableTaint(taint) {
			taints = append(taints, corev1.Taint{Key: taint.Key, Value: taint.Value, Effect: taint.Effect})
		}
	}
	return taints
}

func usableTaint(taint corev1.Taint) bool {
	switch taint.Effect {
	case corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		return usableKey(taint.Key) && isLabelValue(taint.Value)
	default:
		return false
	}
}

// Reserved tells that a key belongs to Kubernetes or to this platform, so that a pool's
// template cannot use it for labels or taints.
func Reserved(key string) bool {
	domain, _, qualified := strings.Cut(key, "/")
	if !qualified {
		// Not a domain, but the platform's own label for the token's Secret.
		return key == osnodev1.LabelSecret
	}
	for _, reserved := range []string{"kubernetes.io", "k8s.io", "osn.infn.it", osnodev1.Group} {
		if domain == reserved || strings.HasSuffix(domain, "."+reserved) {
			return true
		}
	}
	return false
}

func usableKey(key string) bool {
	return !Reserved(key) && len(validation.IsQualifiedName(key)) == 0
}

func isLabelValue(value string) bool { return len(validation.IsValidLabelValue(value)) == 0 }
