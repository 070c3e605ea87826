// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// checkSources wants a file for every path that the sources of a projected or
// downwardAPI volume name. The origin resolves the sources, and one that does not know
// a kind of source leaves its files out: the pod would start without them.
func (t *translation) checkSources(at string, volume *corev1.Volume) {
	files, found := t.supplied.projected[volume.Name]
	if volume.Projected != nil {
		t.refuseSources(at, volume.Projected.Sources, files)
	}
	if !found {
		return // the whole volume is missing, or optional
	}
	content := contents(files)
	paths := namedPaths(volume)
	for path, optional := range sorted(paths) {
		switch _, supplied := content[path]; {
		case supplied:
		case optional:
			t.dropped(at, fmt.Sprintf("the file %s is optional and was not supplied with the pod", path))
		default:
			t.absent("file "+path+" of the volume", volume.Name, false, at)
		}
	}
	unnamed := len(content)
	for path := range content {
		if _, named := paths[path]; named {
			unnamed--
		}
	}
	if name := wholeSecret(volume); name != "" && unnamed == 0 {
		t.absent("files of the Secret", name, false, at)
	}
}

// refuseSources names sources that no other node than the origin's can have.
func (t *translation) refuseSources(at string, sources []corev1.VolumeProjection, files *corev1.ConfigMap) {
	for i := range sources {
		source := &sources[i]
		field := fmt.Sprintf("%s.projected.sources[%d]", at, i)
		if source.PodCertificate != nil {
			t.refuse(Problem{
				Field: field + ".podCertificate", Value: source.PodCertificate.SignerName,
				Rule:   "the key is made by the kubelet that runs the pod, and the signer is the origin cluster's",
				Remedy: "mount a certificate from a Secret",
			})
		}
		bundle := source.ClusterTrustBundle
		if bundle == nil || is(bundle.Optional) {
			continue
		}
		if files != nil {
			if _, supplied := contents(files)[bundle.Path]; supplied {
				continue
			}
		}
		t.refuse(Problem{
			Field: field + ".clusterTrustBundle", Value: bundle.Path,
			Rule:   "a trust bundle is an object of the origin cluster and does not come with a pod",
			Remedy: "mount it from a ConfigMap, or mark it optional",
		})
	}
}

// namedPaths are the files that a volume's sources name, and whether each is optional.
// Sources without items take whatever their object has.
func namedPaths(volume *corev1.Volume) map[string]bool {
	paths := map[string]bool{}
	items := func(list []corev1.KeyToPath, optional *bool) {
		for _, item := range list {
			paths[item.Path] = is(optional)
		}
	}
	fields := func(list []corev1.DownwardAPIVolumeFile) {
		for i := range list {
			paths[list[i].Path] = false
		}
	}
	if volume.DownwardAPI != nil {
		fields(volume.DownwardAPI.Items)
		return paths
	}
	for i := range volume.Projected.Sources {
		source := &volume.Projected.Sources[i]
		switch {
		case source.ConfigMap != nil:
			items(source.ConfigMap.Items, source.ConfigMap.Optional)
		case source.Secret != nil:
			items(source.Secret.Items, source.Secret.Optional)
		case source.DownwardAPI != nil:
			fields(source.DownwardAPI.Items)
		case source.ServiceAccountToken != nil:
			paths[source.ServiceAccountToken.Path] = false
		case source.ClusterTrustBundle != nil && is(source.ClusterTrustBundle.Optional):
			paths[source.ClusterTrustBundle.Path] = true
		}
	}
	return paths
}

// wholeSecret is the name of a Secret of which a volume must have all files. Upstream's
// virtual kubelet leaves Secrets out of projected volumes.
func wholeSecret(volume *corev1.Volume) string {
	if volume.Projected == nil {
		return ""
	}
	for i := range volume.Projected.Sources {
		if secret := volume.Projected.Sources[i].Secret; secret != nil && len(secret.Items) == 0 && !is(secret.Optional) {
			return secret.Name
		}
	}
	return ""
}

// mounts makes mounts of a volume read-only that the origin, or the policy, has read-only:
// the volume which the policy puts in its place may have no such field, and where two
// volumes of a pod are one claim, a kubelet heeds the field of either.
func (t *translation) mounts(at string, from []corev1.VolumeMount) []corev1.VolumeMount {
	for i := range from {
		mount := &from[i]
		if why := t.readOnlyVolume(mount.Name); !mount.ReadOnly && why != "" {
			mount.ReadOnly = true
			t.mapped(fmt.Sprintf("%s.volumeMounts[%s].readOnly", at, mount.Name), "true: "+why)
		}
	}
	return from
}

// readOnlyVolume says why nothing may write to a volume; empty if nothing forbids it.
func (t *translation) readOnlyVolume(name string) string {
	at := slices.IndexFunc(t.pod.Spec.Volumes, func(volume corev1.Volume) bool { return volume.Name == name })
	if at < 0 {
		return ""
	}
	volume := &t.pod.Spec.Volumes[at]
	if readOnly(&volume.VolumeSource) {
		return "the origin's volume is read-only"
	}
	if rule, _ := t.volumeRule(volumeKind(&volume.VolumeSource), volume); rule >= 0 && readOnly(&t.policy.Volumes[rule].Target) {
		return fmt.Sprintf("policy.volumes[%d] is read-only", rule)
	}
	return ""
}

// readOnly tells whether a volume's source is marked read-only.
func readOnly(source *corev1.VolumeSource) bool {
	field := reflect.Indirect(readOnlyField(source))
	return field.IsValid() && field.Bool()
}

// setReadOnly marks a volume's source, if it can be marked.
func setReadOnly(source *corev1.VolumeSource) {
	switch field := readOnlyField(source); {
	case !field.IsValid():
	case field.Kind() == reflect.Pointer:
		field.Set(reflect.ValueOf(new(true)))
	default:
		field.SetBool(true)
	}
}

// readOnlyField is a bool or a pointer to one; the zero Value for sources without.
func readOnlyField(source *corev1.VolumeSource) reflect.Value {
	for _, of := range reflect.ValueOf(source).Elem().Fields() {
		if !of.IsNil() {
			return of.Elem().FieldByName("ReadOnly")
		}
	}
	return reflect.Value{}
}

// sorted iterates over a map by its keys, so that reports and messages have one order.
func sorted[K ~string, V any](of map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(of)) {
			if !yield(key, of[key]) {
				return
			}
		}
	}
}
