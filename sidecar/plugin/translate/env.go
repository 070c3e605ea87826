// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// env keeps order and duplicates: later entries and $(VAR) depend on them.
func (t *translation) env(at string, from []corev1.EnvVar) []corev1.EnvVar {
	from = slices.DeleteFunc(from, func(variable corev1.EnvVar) bool {
		source, field := variable.ValueFrom, fmt.Sprintf("%s.env[%s]", at, variable.Name)
		if source == nil {
			return false
		}
		if ref := source.ConfigMapKeyRef; ref != nil {
			return t.left(t.hasConfigMap(ref.Name), is(ref.Optional), "ConfigMap", ref.Name, field)
		}
		ref := source.SecretKeyRef
		return ref != nil && t.left(t.hasSecret(ref.Name), is(ref.Optional), "Secret", ref.Name, field)
	})
	for i := range from {
		if from[i].ValueFrom == nil {
			continue
		}
		t.envSource(fmt.Sprintf("%s.env[%s]", at, from[i].Name), &from[i])
	}
	return from
}

func (t *translation) envSource(at string, variable *corev1.EnvVar) {
	source := variable.ValueFrom
	switch {
	case source.FieldRef != nil:
		t.envField(at, variable)
	case source.ConfigMapKeyRef != nil:
		ref := source.ConfigMapKeyRef
		ref.Name = t.configMap(ref.Name, is(ref.Optional), at)
	case source.SecretKeyRef != nil:
		ref := source.SecretKeyRef
		ref.Name = t.secret(ref.Name, is(ref.Optional), at)
	case source.ResourceFieldRef != nil, source.FileKeyRef != nil:
		// The container's own resources and files: the target's kubelet knows them.
	default:
		t.refuse(Problem{Field: at + ".valueFrom", Rule: "this version does not know the source", Remedy: "give the value as text"})
	}
}

// envField replaces what names the pod at its origin by its value there. The
// addresses are those of the place where the pod runs.
func (t *translation) envField(at string, variable *corev1.EnvVar) {
	path := variable.ValueFrom.FieldRef.FieldPath
	switch path {
	case "status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs":
		return
	}
	value, known := t.originField(path)
	if !known {
		t.refuse(Problem{Field: at + ".valueFrom.fieldRef", Value: path, Rule: "is no field that an environment variable can have"})
		return
	}
	variable.ValueFrom = nil
	// The kubelet expands $(VAR) in texts but not in fields; $$ is its escape.
	variable.Value = strings.ReplaceAll(value, "$", "$$")
	t.mapped(at+".valueFrom.fieldRef", path+" of the origin")
}

func (t *translation) originField(path string) (value string, known bool) {
	switch path {
	case "metadata.name":
		return t.pod.Name, true
	case "metadata.namespace":
		return t.pod.Namespace, true
	case "metadata.uid":
		return string(t.pod.UID), true
	case "spec.nodeName":
		return t.originNode(), true
	case "spec.serviceAccountName":
		return t.pod.Spec.ServiceAccountName, true
	}
	if key, found := subscript(path, "metadata.labels"); found {
		return t.pod.Labels[key], true
	}
	if key, found := subscript(path, "metadata.annotations"); found {
		return t.pod.Annotations[key], true
	}
	return "", false
}

// subscript takes key out of field['key'].
func subscript(path, field string) (key string, found bool) {
	rest, found := strings.CutPrefix(path, field+"['")
	if !found {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

func (t *translation) envFrom(at string, from []corev1.EnvFromSource) []corev1.EnvFromSource {
	var kept []corev1.EnvFromSource
	for i, source := range from {
		field := fmt.Sprintf("%s.envFrom[%d]", at, i)
		if ref := source.ConfigMapRef; ref != nil {
			if t.left(t.hasConfigMap(ref.Name), is(ref.Optional), "ConfigMap", ref.Name, field) {
				continue
			}
			ref.Name = t.configMap(ref.Name, is(ref.Optional), field)
		}
		if ref := source.SecretRef; ref != nil {
			if t.left(t.hasSecret(ref.Name), is(ref.Optional), "Secret", ref.Name, field) {
				continue
			}
			ref.Name = t.secret(ref.Name, is(ref.Optional), field)
		}
		kept = append(kept, source)
	}
	return kept
}

func is(flag *bool) bool { return flag != nil && *flag }
