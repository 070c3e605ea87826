// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// environment makes a container's environment fit for the far end: with
// references it stays as it is and the objects go along; without, it becomes
// literal, in a kubelet's order and by its rules.
func (b *build) environment(ctx context.Context, container *corev1.Container, options Options) error {
	if options.References {
		return b.references(ctx, container)
	}
	environment, err := b.fromObjects(ctx, container)
	if err != nil {
		return err
	}
	for i := range container.Env {
		variable, ok, err := b.literal(ctx, container, &container.Env[i])
		if err != nil {
			return err
		}
		if ok {
			environment = append(environment, variable)
		}
	}
	container.Env, container.EnvFrom = lastOnes(environment), nil
	return nil
}

// lastOnes drops variables that a later one of the same name replaces, unless
// some value refers to the name: then the order decides what it expands to.
func lastOnes(environment []corev1.EnvVar) []corev1.EnvVar {
	last := make(map[string]int, len(environment))
	for i := range environment {
		last[environment[i].Name] = i
	}
	kept := make([]corev1.EnvVar, 0, len(environment))
	for i := range environment {
		name := environment[i].Name
		if last[name] == i || referred(environment, name) {
			kept = append(kept, environment[i])
		}
	}
	return kept
}

func referred(environment []corev1.EnvVar, name string) bool {
	return slices.ContainsFunc(environment, func(e corev1.EnvVar) bool { return strings.Contains(e.Value, "$("+name+")") })
}

// references puts the objects that an environment refers to into the request.
func (b *build) references(ctx context.Context, container *corev1.Container) error {
	for i := range container.EnvFrom {
		if err := b.wholeObject(ctx, &container.EnvFrom[i]); b.tolerated(err) != nil {
			return err
		}
	}
	for i := range container.Env {
		if err := b.objectOfKey(ctx, container.Env[i].ValueFrom); b.tolerated(err) != nil {
			return err
		}
	}
	return nil
}

func (b *build) wholeObject(ctx context.Context, source *corev1.EnvFromSource) error {
	var err error
	switch {
	case source.ConfigMapRef != nil:
		_, err = b.configMap(ctx, source.ConfigMapRef.Name, source.ConfigMapRef.Optional)
	case source.SecretRef != nil:
		_, err = b.secret(ctx, source.SecretRef.Name, source.SecretRef.Optional)
	}
	return err
}

func (b *build) objectOfKey(ctx context.Context, from *corev1.EnvVarSource) error {
	var err error
	switch {
	case from == nil:
	case from.ConfigMapKeyRef != nil:
		_, _, err = b.configMapKey(ctx, from.ConfigMapKeyRef, b.configMap)
	case from.SecretKeyRef != nil:
		_, _, err = b.secretKey(ctx, from.SecretKeyRef, b.secret)
	}
	return err
}

// fromObjects resolves envFrom. Names that cannot be variables are skipped.
func (b *build) fromObjects(ctx context.Context, container *corev1.Container) ([]corev1.EnvVar, error) {
	var environment []corev1.EnvVar
	var skipped []string
	for i := range container.EnvFrom {
		source := &container.EnvFrom[i]
		values, err := b.values(ctx, source)
		if err != nil {
			return nil, err
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			name := source.Prefix + key
			if len(validation.IsRelaxedEnvVarName(name)) > 0 {
				skipped = append(skipped, name)
				continue
			}
			environment = append(environment, corev1.EnvVar{Name: name, Value: escape(values[key])})
		}
	}
	if len(skipped) > 0 && b.collector.cfg.Recorder != nil {
		b.collector.cfg.Recorder.Eventf(b.origin, corev1.EventTypeWarning, "InvalidEnvironmentVariableNames",
			"container %q: keys skipped because they cannot be names of variables: %s", container.Name, strings.Join(skipped, ", "))
	}
	return environment, nil
}

func (b *build) values(ctx context.Context, source *corev1.EnvFromSource) (map[string]string, error) {
	if reference := source.ConfigMapRef; reference != nil {
		object, err := b.readConfigMap(ctx, reference.Name, reference.Optional)
		if err != nil || object == nil {
			return nil, err
		}
		return object.Data, nil
	}
	if reference := source.SecretRef; reference != nil {
		object, err := b.readSecret(ctx, reference.Name, reference.Optional)
		if err != nil || object == nil {
			return nil, err
		}
		values := make(map[string]string, len(object.Data))
		for key, data := range object.Data {
			values[key] = string(data)
		}
		return values, nil
	}
	return nil, nil
}

// literal resolves one variable; false leaves it out. What depends on where the
// pod runs stays a reference.
func (b *build) literal(ctx context.Context, container *corev1.Container, variable *corev1.EnvVar) (corev1.EnvVar, bool, error) {
	from := variable.ValueFrom
	if from == nil {
		return *variable, true, nil
	}
	var text string
	found := true
	var err error
	switch {
	case from.FieldRef != nil:
		if text, found = field(b.origin, from.FieldRef.FieldPath); !found {
			return *variable, true, nil
		}
	case from.ResourceFieldRef != nil:
		owner := from.ResourceFieldRef.ContainerName
		if owner == "" {
			owner = container.Name
		}
		text, err = b.resource(from.ResourceFieldRef, owner)
	case from.ConfigMapKeyRef != nil:
		text, found, err = b.configMapKey(ctx, from.ConfigMapKeyRef, b.readConfigMap)
	case from.SecretKeyRef != nil:
		text, found, err = b.secretKey(ctx, from.SecretKeyRef, b.readSecret)
	default:
		return *variable, true, nil
	}
	return corev1.EnvVar{Name: variable.Name, Value: escape(text)}, found, err
}

func (b *build) configMapKey(ctx context.Context, reference *corev1.ConfigMapKeySelector,
	read func(context.Context, string, *bool) (*corev1.ConfigMap, error),
) (string, bool, error) {
	object, err := read(ctx, reference.Name, reference.Optional)
	if err != nil || object == nil {
		return "", false, err
	}
	if text, ok := object.Data[reference.Key]; ok {
		return text, true, nil
	}
	if isTrue(reference.Optional) {
		return "", false, nil
	}
	return "", false, &MissingError{Kind: "ConfigMap", Namespace: b.origin.Namespace, Name: reference.Name, Key: reference.Key}
}

func (b *build) secretKey(ctx context.Context, reference *corev1.SecretKeySelector,
	read func(context.Context, string, *bool) (*corev1.Secret, error),
) (string, bool, error) {
	object, err := read(ctx, reference.Name, reference.Optional)
	if err != nil || object == nil {
		return "", false, err
	}
	if data, ok := object.Data[reference.Key]; ok {
		return string(data), true, nil
	}
	if isTrue(reference.Optional) {
		return "", false, nil
	}
	return "", false, &MissingError{Kind: "Secret", Namespace: b.origin.Namespace, Name: reference.Name, Key: reference.Key}
}

// escape protects a value that was never subject to $(VAR) expansion from it: the
// far end cannot tell a resolved value from a written one. Only what expansion
// would change is touched, because plugins for batch systems do not expand.
func escape(value string) string {
	var escaped strings.Builder
	for i := range len(value) {
		escaped.WriteByte(value[i])
		if value[i] == '$' && i+1 < len(value) && (value[i+1] == '(' || value[i+1] == '$') {
			escaped.WriteByte('$')
		}
	}
	return escaped.String()
}
