// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// projected turns a projected or downwardAPI volume into one Secret with the files
// that came along. A Secret, because one of them may be a token.
func (t *translation) projected(at string, volume *corev1.Volume) corev1.VolumeSource {
	optional := optionalFiles(volume)
	name := withHash(volume.Name, digest(t.identity, "Projected", volume.Name))
	files, found := t.supplied.projected[volume.Name]
	if t.left(found, optional, "projected volume", volume.Name, at) {
		return empty()
	}
	if !found {
		t.absent("files of the projected volume", volume.Name, optional, at)
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name, Optional: &optional}}
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: t.objectAnnotations(volume.Name)},
		Type:       corev1.SecretTypeOpaque, Data: map[string][]byte{},
	}
	source := &corev1.SecretVolumeSource{SecretName: name, DefaultMode: defaultMode(volume)}
	modes := fileModes(volume)
	content := contents(files)
	asItIs := keysOnly(content) && len(modes) == 0
	for _, path := range slices.Sorted(maps.Keys(content)) {
		key := fileKey(path)
		secret.Data[key] = content[path]
		if !asItIs {
			source.Items = append(source.Items, corev1.KeyToPath{Key: key, Path: path, Mode: modes[path]})
		}
	}
	t.created.addSecret(secret)
	t.mapped(at, "files of the origin in a Secret")
	return corev1.VolumeSource{Secret: source}
}

// keysOnly tells that the files can be the keys of a Secret. Its volume then needs no
// list of them, so that files can come and go while the pod lives.
func keysOnly(content map[string][]byte) bool {
	for path := range content {
		if fileKey(path) != path {
			return false
		}
	}
	return true
}

// fileKey is the key of a file. It depends on nothing but the file's path, or an update
// would rename it.
func fileKey(path string) string {
	if len(validation.IsConfigMapKey(path)) > 0 {
		return "file-" + digest(path)
	}
	return path
}

func contents(files *corev1.ConfigMap) map[string][]byte {
	out := make(map[string][]byte, len(files.Data)+len(files.BinaryData))
	for path, text := range files.Data {
		out[path] = []byte(text)
	}
	maps.Copy(out, files.BinaryData)
	return out
}

func defaultMode(volume *corev1.Volume) *int32 {
	if volume.Projected != nil {
		return volume.Projected.DefaultMode
	}
	return volume.DownwardAPI.DefaultMode
}

// fileModes are the modes that the volume's sources give to single files.
func fileModes(volume *corev1.Volume) map[string]*int32 {
	modes := map[string]*int32{}
	set := func(path string, mode *int32) {
		if mode != nil {
			modes[path] = mode
		}
	}
	byKey := func(items []corev1.KeyToPath) {
		for _, item := range items {
			set(item.Path, item.Mode)
		}
	}
	byField := func(items []corev1.DownwardAPIVolumeFile) {
		for i := range items {
			set(items[i].Path, items[i].Mode)
		}
	}
	if volume.DownwardAPI != nil {
		byField(volume.DownwardAPI.Items)
		return modes
	}
	for i := range volume.Projected.Sources {
		source := &volume.Projected.Sources[i]
		switch {
		case source.ConfigMap != nil:
			byKey(source.ConfigMap.Items)
		case source.Secret != nil:
			byKey(source.Secret.Items)
		case source.DownwardAPI != nil:
			byField(source.DownwardAPI.Items)
		}
	}
	return modes
}

// optionalFiles tells whether the volume may be empty.
func optionalFiles(volume *corev1.Volume) bool {
	if volume.Projected == nil {
		return len(volume.DownwardAPI.Items) == 0
	}
	for i := range volume.Projected.Sources {
		source := &volume.Projected.Sources[i]
		switch {
		case source.ConfigMap != nil && is(source.ConfigMap.Optional):
		case source.Secret != nil && is(source.Secret.Optional):
		default:
			return false
		}
	}
	return true
}
