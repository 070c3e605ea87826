// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/multitenancy/admission"
)

const sentinel = "sentinel"

// walkTexts calls visit for each text that a type can hold, with a way to set it in a
// value of the root type.
func walkTexts(of reflect.Type, path string, reach func(root reflect.Value) reflect.Value, visit func(path string, set func(root reflect.Value))) {
	switch of.Kind() { //nolint:exhaustive // numbers and truths name nothing
	case reflect.Pointer:
		walkTexts(of.Elem(), path, func(root reflect.Value) reflect.Value {
			at := reach(root)
			if at.IsNil() {
				at.Set(reflect.New(of.Elem()))
			}
			return at.Elem()
		}, visit)
	case reflect.Slice:
		walkTexts(of.Elem(), path+"[]", func(root reflect.Value) reflect.Value {
			at := reach(root)
			if at.Len() == 0 {
				at.Set(reflect.MakeSlice(of, 1, 1))
			}
			return at.Index(0)
		}, visit)
	case reflect.Struct:
		if !strings.HasSuffix(of.PkgPath(), "core/v1") {
			return // quantities, times, selectors and metadata name no objects
		}
		for i := range of.NumField() {
			field := of.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			at := path
			if name != "" {
				at += "." + name
			}
			walkTexts(field.Type, at, func(root reflect.Value) reflect.Value { return reach(root).Field(i) }, visit)
		}
	case reflect.String:
		visit(path, func(root reflect.Value) { reach(root).SetString(sentinel) })
	}
}

var update = flag.Bool("update", false, "write the golden files")

// TestPodSpecFields knows every text in a pod's spec, and which of them are references. It
// fails when a newer version of Kubernetes adds one: decide what it is, and teach
// PodReferences if it names an object; then run with -update and read the difference.
func TestPodSpecFields(t *testing.T) {
	t.Parallel()
	var found []string
	walkTexts(reflect.TypeFor[corev1.PodSpec](), "spec", func(root reflect.Value) reflect.Value { return root },
		func(path string, set func(root reflect.Value)) {
			spec := &corev1.PodSpec{}
			set(reflect.ValueOf(spec).Elem())
			references, unknown := admission.PodReferences(spec, "pod", "spec")
			line := path
			if len(unknown) > 0 {
				line += " -> refused" // it is not complete without other fields
			}
			for _, reference := range references {
				if reference.Name == sentinel {
					line += " -> " + reference.Resource.String()
				}
			}
			found = append(found, line)
		})
	slices.Sort(found)
	require.Greater(t, len(found), 200)
	got := strings.Join(found, "\n") + "\n"
	golden := filepath.Join("testdata", "podspec.fields")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Empty(t, cmp.Diff(string(want), got))
}

// Every type of volume is either known or reported.
func TestVolumeTypes(t *testing.T) {
	t.Parallel()
	source := reflect.TypeFor[corev1.VolumeSource]()
	for i := range source.NumField() {
		volume := corev1.Volume{Name: "v"}
		reflect.ValueOf(&volume.VolumeSource).Elem().Field(i).Set(reflect.New(source.Field(i).Type.Elem()))
		_, unknown := admission.PodReferences(&corev1.PodSpec{Volumes: []corev1.Volume{volume}}, "pod", "spec")
		assert.Empty(t, unknown, source.Field(i).Name)
	}
	for name, spec := range map[string]corev1.PodSpec{
		"volume":     {Volumes: []corev1.Volume{{Name: "new"}}},
		"projection": {Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{}}}}}}},
		"env":        {Containers: []corev1.Container{{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{}}}}}},
		"envFrom":    {InitContainers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{}}}}},
	} {
		_, unknown := admission.PodReferences(&spec, "pod", "spec")
		assert.Len(t, unknown, 1, name)
	}
}
