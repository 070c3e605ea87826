// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/internal/interlink"
)

// kindClaim is the JSON name of a volume's source that is a claim.
const kindClaim = "persistentVolumeClaim"

// defaultGrace is how long a claim stays by default that no pod uses any more and that
// is not retained.
const defaultGrace = 10 * time.Minute

// Retention says what becomes of a created claim that no pod uses any more.
type Retention string

const (
	// RetentionRetain keeps it until somebody deletes it.
	RetentionRetain Retention = "Retain"
	// RetentionDelete deletes it after a grace time.
	RetentionDelete Retention = "Delete"
)

// ClaimRule says how claims are made in the target cluster, one for each claim of an
// origin, which all pods share that use the origin's.
type ClaimRule struct {
	// StorageClass of the target cluster; nil is its default class, "" none.
	StorageClass *string `json:"storageClass,omitempty"`
	// Size is that of every claim; nil is what the origin's claim requests.
	Size *resource.Quantity `json:"size,omitempty"`
	// MaxSize refuses pods whose claim requests more at the origin, where Size is nil.
	MaxSize *resource.Quantity `json:"maxSize,omitempty"`
	// AccessModes default to those of the origin's claim, if they are known, or ReadWriteOnce.
	AccessModes []corev1.PersistentVolumeAccessMode `json:"accessModes,omitempty"`
	// VolumeMode defaults to that of the origin's claim, if it is known, or Filesystem.
	VolumeMode corev1.PersistentVolumeMode `json:"volumeMode,omitempty"`
	// Retention says what becomes of a claim without pods; default RetentionRetain.
	Retention Retention `json:"retention,omitempty"`
	// Grace is how long it stays then, with RetentionDelete; default 10m.
	Grace *metav1.Duration `json:"grace,omitempty"`
}

func (c *ClaimRule) validate(at string) error {
	var problems []error
	if c.StorageClass != nil && *c.StorageClass != "" && len(validation.IsDNS1123Subdomain(*c.StorageClass)) > 0 {
		problems = append(problems, fmt.Errorf("%s.storageClass: %q is no name of a class", at, *c.StorageClass))
	}
	for field, size := range sorted(map[string]*resource.Quantity{"size": c.Size, "maxSize": c.MaxSize}) {
		if size != nil && size.Sign() <= 0 {
			problems = append(problems, fmt.Errorf("%s.%s: %s: must be positive", at, field, size))
		}
	}
	if c.Size != nil && c.MaxSize != nil {
		problems = append(problems, fmt.Errorf("%s.maxSize: has no effect beside size", at))
	}
	return errors.Join(append(problems, c.validateModes(at), c.validateRetention(at))...)
}

func (c *ClaimRule) validateModes(at string) error {
	var problems []error
	modes := []corev1.PersistentVolumeAccessMode{
		corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod,
	}
	for i, mode := range c.AccessModes {
		if !slices.Contains(modes, mode) {
			problems = append(problems, fmt.Errorf("%s.accessModes[%d]: %q: want one of %v", at, i, mode, modes))
		}
	}
	if !slices.Contains([]corev1.PersistentVolumeMode{"", corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeBlock}, c.VolumeMode) {
		problems = append(problems, fmt.Errorf("%s.volumeMode: %q: want Filesystem or Block", at, c.VolumeMode))
	}
	return errors.Join(problems...)
}

func (c *ClaimRule) validateRetention(at string) error {
	var problems []error
	if !slices.Contains([]Retention{"", RetentionRetain, RetentionDelete}, c.Retention) {
		problems = append(problems, fmt.Errorf("%s.retention: %q: want Retain or Delete", at, c.Retention))
	}
	if c.Grace != nil && (c.Grace.Duration < 0 || c.Retention != RetentionDelete) {
		problems = append(problems, fmt.Errorf("%s.grace: %s: must not be negative, and is for retention Delete", at, c.Grace.Duration))
	}
	return errors.Join(problems...)
}

// claim has a claim made for that of the origin, with the figures of the rule or, where
// it has none, of the origin.
func (t *translation) claim(at, rule string, c *ClaimRule, volume *corev1.Volume) corev1.VolumeSource {
	name := volume.PersistentVolumeClaim.ClaimName
	id := digest(t.origin, t.cluster(), "PersistentVolumeClaim", t.pod.Namespace, name)
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: withHash(name, id),
			Labels: map[string]string{
				LabelManagedBy: ManagedBy, LabelOrigin: t.origin, LabelClaim: id, LabelRetention: string(c.retention()),
			},
			Annotations: t.claimAnnotations(name, c),
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: c.StorageClass,
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		},
	}
	size := c.Size
	mode := c.VolumeMode
	if facts := t.supplied.claims[name]; facts != nil {
		if len(facts.AccessModes) > 0 {
			claim.Spec.AccessModes = slices.Clone(facts.AccessModes)
		}
		if mode == "" {
			mode = facts.VolumeMode
		}
		if size == nil {
			size = t.requested(at, rule, c, facts.Size)
		}
	}
	if len(c.AccessModes) > 0 {
		claim.Spec.AccessModes = slices.Clone(c.AccessModes)
	}
	if mode != "" {
		claim.Spec.VolumeMode = &mode
	}
	if size == nil {
		t.refuse(Problem{
			Field: at + "." + kindClaim, Value: name, Rule: "the size of the claim is not known here",
			Remedy: fmt.Sprintf("ask the site to give one (%s.size), or to let the virtual kubelet read claims", rule),
		})
		return corev1.VolumeSource{}
	}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: size.DeepCopy()}
	t.created.addClaim(claim)
	t.mapped(at+"."+kindClaim, fmt.Sprintf("%s: %s, made for %s/%s", rule, claim.Name, t.pod.Namespace, name))
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{
		ClaimName: claim.Name, ReadOnly: volume.PersistentVolumeClaim.ReadOnly,
	}}
}

// requested is the size that an origin's claim asks for, or nil.
func (t *translation) requested(at, rule string, c *ClaimRule, size *resource.Quantity) *resource.Quantity {
	if size == nil || size.Sign() <= 0 {
		return nil
	}
	if c.MaxSize != nil && size.Cmp(*c.MaxSize) > 0 {
		t.refuse(Problem{
			Field: at + "." + kindClaim, Value: size.String(),
			Rule:   fmt.Sprintf("the site makes no claims of more than %s (%s.maxSize)", c.MaxSize, rule),
			Remedy: "use a smaller claim, or ask the site for more",
		})
	}
	return size
}

func (c *ClaimRule) retention() Retention {
	if c.Retention == "" {
		return RetentionRetain
	}
	return c.Retention
}

func (t *translation) claimAnnotations(name string, c *ClaimRule) map[string]string {
	annotations := t.objectAnnotations(name)
	annotations[interlink.AnnotationOriginCluster] = t.cluster()
	if c.retention() == RetentionDelete {
		grace := defaultGrace
		if c.Grace != nil {
			grace = c.Grace.Duration
		}
		annotations[AnnotationGrace] = grace.String()
	}
	return annotations
}
