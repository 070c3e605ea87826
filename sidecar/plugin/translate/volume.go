// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func (t *translation) volumes(from []corev1.Volume) []corev1.Volume {
	var out []corev1.Volume
	for i := range from {
		out = append(out, corev1.Volume{Name: from[i].Name, VolumeSource: t.volume(&from[i])})
	}
	return out
}

func (t *translation) volume(from *corev1.Volume) corev1.VolumeSource {
	at := fmt.Sprintf("spec.volumes[%s]", from.Name)
	source := from.VolumeSource
	kind := volumeKind(&source)
	if kind != "" && len(setFields(&source)) > 1 {
		t.refuse(Problem{Field: at, Value: strings.Join(setFields(&source), ","), Rule: "a volume has exactly one source"})
		return corev1.VolumeSource{}
	}
	switch kind {
	case "emptyDir":
		if source.EmptyDir == nil {
			source.EmptyDir = &corev1.EmptyDirVolumeSource{}
		}
		return corev1.VolumeSource{EmptyDir: source.EmptyDir}
	case "configMap":
		if t.left(t.hasConfigMap(source.ConfigMap.Name), is(source.ConfigMap.Optional), "ConfigMap", source.ConfigMap.Name, at) {
			return empty()
		}
		source.ConfigMap.Name = t.configMap(source.ConfigMap.Name, is(source.ConfigMap.Optional), at)
		return corev1.VolumeSource{ConfigMap: source.ConfigMap}
	case "secret":
		if t.left(t.hasSecret(source.Secret.SecretName), is(source.Secret.Optional), "Secret", source.Secret.SecretName, at) {
			return empty()
		}
		source.Secret.SecretName = t.secret(source.Secret.SecretName, is(source.Secret.Optional), at)
		return corev1.VolumeSource{Secret: source.Secret}
	case "projected", "downwardAPI":
		t.checkSources(at, from)
		return t.projected(at, from)
	}
	return t.mappedVolume(at, kind, from)
}

// empty is what a volume of optional files has that are not there.
func empty() corev1.VolumeSource {
	return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
}

// mappedVolume applies the policy's first rule that matches.
func (t *translation) mappedVolume(at, kind string, from *corev1.Volume) corev1.VolumeSource {
	i, unknown := t.volumeRule(kind, from)
	if i >= 0 {
		rule, place := &t.policy.Volumes[i], fmt.Sprintf("policy.volumes[%d]", i)
		if rule.Claim != nil {
			return t.claim(at, place+".claim", rule.Claim, from)
		}
		t.mapped(at+"."+kind, place+": "+volumeKind(&rule.Target))
		target := rule.Target.DeepCopy()
		if readOnly(&from.VolumeSource) {
			setReadOnly(target)
		}
		return *target
	}
	if image, rewritten := t.imageVolume(at, from); rewritten {
		return image
	}
	problem := Problem{
		Field: at + "." + kind, Value: volumeValue(from),
		Rule:   "names storage of the origin cluster, which the target cluster does not have",
		Remedy: "use emptyDir, configMap, secret or projected, or ask the site to map it (policy.volumes)",
	}
	if unknown {
		problem.Rule += "; its storage class, by which the site maps volumes, did not come with the pod"
		problem.Remedy = "have the virtual kubelet allowed to read claims, or ask the site to map it by name (policy.volumes)"
	}
	t.refuse(problem)
	return corev1.VolumeSource{}
}

// volumeRule is the index of the policy's first rule that matches, or -1. A rule on the
// storage class matches nothing whose class is not known; unknown tells of such a rule.
func (t *translation) volumeRule(kind string, from *corev1.Volume) (index int, unknown bool) {
	class, known := t.storageClass(from)
	index = slices.IndexFunc(t.policy.Volumes, func(rule VolumeRule) bool {
		if !rule.Match.matches(t.pod.Namespace, kind, from) {
			return false
		}
		blind := rule.Match.StorageClass != "" && !known
		unknown = unknown || blind
		return !blind && glob(rule.Match.StorageClass, class)
	})
	return index, unknown
}

// storageClass is the class of a volume; known is false when the origin does not tell
// that of its claim.
func (t *translation) storageClass(volume *corev1.Volume) (class string, known bool) {
	if volume.PersistentVolumeClaim == nil {
		return volumeClass(volume), true
	}
	facts := t.supplied.claims[volume.PersistentVolumeClaim.ClaimName]
	if facts == nil {
		return "", false
	}
	return facts.StorageClass, true
}

// matches compares all but the storage class.
func (m *VolumeMatch) matches(namespace, kind string, volume *corev1.Volume) bool {
	return m.Kind == kind && glob(m.Namespace, namespace) && glob(m.Name, volumeName(volume)) &&
		glob(m.Path, volumePath(volume)) && glob(m.Server, volumeServer(volume)) &&
		glob(m.Driver, volumeDriver(volume)) && glob(m.Image, volumeImage(volume))
}

// glob reports whether value matches pattern; an empty pattern matches all.
func glob(pattern, value string) bool {
	if pattern == "" {
		return true
	}
	matched, err := path.Match(pattern, value)
	return err == nil && matched
}

func volumeName(volume *corev1.Volume) string {
	if volume.PersistentVolumeClaim != nil {
		return volume.PersistentVolumeClaim.ClaimName
	}
	return volume.Name
}

func volumePath(volume *corev1.Volume) string {
	switch {
	case volume.HostPath != nil:
		return volume.HostPath.Path
	case volume.NFS != nil:
		return volume.NFS.Path
	}
	return ""
}

func volumeServer(volume *corev1.Volume) string {
	if volume.NFS != nil {
		return volume.NFS.Server
	}
	return ""
}

func volumeDriver(volume *corev1.Volume) string {
	if volume.CSI != nil {
		return volume.CSI.Driver
	}
	return ""
}

func volumeClass(volume *corev1.Volume) string {
	if volume.Ephemeral == nil || volume.Ephemeral.VolumeClaimTemplate == nil {
		return ""
	}
	if class := volume.Ephemeral.VolumeClaimTemplate.Spec.StorageClassName; class != nil {
		return *class
	}
	return ""
}

func volumeImage(volume *corev1.Volume) string {
	if volume.Image != nil {
		return volume.Image.Reference
	}
	return ""
}

// volumeValue is what a user recognises a volume by.
func volumeValue(volume *corev1.Volume) string {
	for _, value := range []string{
		strings.TrimSuffix(volumeServer(volume)+":"+volumePath(volume), ":"),
		volumeDriver(volume), volumeClass(volume), volumeImage(volume),
	} {
		if value != "" {
			return strings.TrimPrefix(value, ":")
		}
	}
	return volumeName(volume)
}
