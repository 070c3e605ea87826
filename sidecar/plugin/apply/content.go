// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// uses are the objects that a pod refers to by name, each with the keys without which
// one of its volumes could not be filled.
type uses struct{ configMaps, secrets map[string][]string }

func usesOf(spec *corev1.PodSpec) uses {
	u := uses{configMaps: map[string][]string{}, secrets: map[string][]string{}}
	for i := range spec.Volumes {
		switch source := &spec.Volumes[i].VolumeSource; {
		case source.ConfigMap != nil:
			u.configMaps[source.ConfigMap.Name] = append(u.configMaps[source.ConfigMap.Name], demanded(source.ConfigMap.Items, source.ConfigMap.Optional)...)
		case source.Secret != nil:
			u.secrets[source.Secret.SecretName] = append(u.secrets[source.Secret.SecretName], demanded(source.Secret.Items, source.Secret.Optional)...)
		}
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			u.environment(&list[i])
		}
	}
	for _, reference := range spec.ImagePullSecrets {
		use(u.secrets, reference.Name)
	}
	return u
}

func (u uses) environment(container *corev1.Container) {
	for _, source := range container.EnvFrom {
		if source.ConfigMapRef != nil {
			use(u.configMaps, source.ConfigMapRef.Name)
		}
		if source.SecretRef != nil {
			use(u.secrets, source.SecretRef.Name)
		}
	}
	for _, variable := range container.Env {
		switch from := variable.ValueFrom; {
		case from == nil:
		case from.ConfigMapKeyRef != nil:
			use(u.configMaps, from.ConfigMapKeyRef.Name)
		case from.SecretKeyRef != nil:
			use(u.secrets, from.SecretKeyRef.Name)
		}
	}
}

func use(of map[string][]string, name string) {
	if _, known := of[name]; !known {
		of[name] = nil
	}
}

func demanded(items []corev1.KeyToPath, optional *bool) []string {
	if optional != nil && *optional {
		return nil
	}
	keys := make([]string, 0, len(items))
	for _, item := range items {
		keys = append(keys, item.Key)
	}
	return keys
}

// sameConfigMap compares an existing ConfigMap with what it should be, and makes it
// that. Keys without which a volume cannot be filled stay: a kubelet that cannot fill
// one leaves all of its files as they were.
func sameConfigMap(existing, wanted *corev1.ConfigMap, keys []string) verdict {
	if frozen(existing.Immutable) {
		return asItShould
	}
	data, binary := maps.Clone(wanted.Data), maps.Clone(wanted.BinaryData)
	for _, key := range keys {
		_, isText := data[key]
		_, isBinary := binary[key]
		if isText || isBinary {
			continue
		}
		data = keep(data, existing.Data, key)
		binary = keep(binary, existing.BinaryData, key)
	}
	if same(existing.Data, data) && same(existing.BinaryData, binary) && frozen(existing.Immutable) == frozen(wanted.Immutable) {
		return asItShould
	}
	existing.Data, existing.BinaryData, existing.Immutable = data, binary, wanted.Immutable
	return outdated
}

// sameSecret is sameConfigMap for Secrets, whose type cannot change.
func sameSecret(existing, wanted *corev1.Secret, keys []string) verdict {
	if frozen(existing.Immutable) {
		return asItShould
	}
	data := maps.Clone(wanted.Data)
	if data == nil {
		data = map[string][]byte{}
	}
	for key, text := range wanted.StringData {
		data[key] = []byte(text)
	}
	for _, key := range keys {
		if _, found := data[key]; !found {
			data = keep(data, existing.Data, key)
		}
	}
	kind := wanted.Type
	if kind == "" {
		kind = corev1.SecretTypeOpaque
	}
	switch {
	case existing.Type != kind:
		return unfit
	case same(existing.Data, data) && frozen(existing.Immutable) == frozen(wanted.Immutable):
		return asItShould
	}
	existing.Data, existing.Immutable = data, wanted.Immutable
	return outdated
}

// frozen objects never change for the pods that use them.
func frozen(immutable *bool) bool { return immutable != nil && *immutable }

func same[V any](a, b map[string]V) bool { return equality.Semantic.DeepEqual(a, b) }

func keep[V any](into, from map[string]V, key string) map[string]V {
	value, found := from[key]
	if !found {
		return into
	}
	if into == nil {
		into = map[string]V{}
	}
	into[key] = value
	return into
}
