// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// TestEveryFieldIsClassified fails when k8s.io/api gains a field, until someone
// decides what becomes of it.
func TestEveryFieldIsClassified(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		object  any
		classes map[string]translate.Class
	}{
		"PodSpec":      {corev1.PodSpec{}, translate.PodFields()},
		"Container":    {corev1.Container{}, translate.ContainerFields()},
		"VolumeSource": {corev1.VolumeSource{}, translate.VolumeFields()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fields := jsonNames(reflect.TypeOf(test.object))
			for _, field := range fields {
				assert.Contains(t, test.classes, field, "field %s is not classified", field)
			}
			for field := range test.classes {
				assert.Contains(t, fields, field, "field %s does not exist", field)
			}
		})
	}
}

// TestKeptFieldsTravel sets each kept field to a value and looks for it in the result.
func TestKeptFieldsTravel(t *testing.T) {
	t.Parallel()
	for field, class := range translate.PodFields() {
		if class != translate.Kept {
			continue
		}
		t.Run("spec."+field, func(t *testing.T) {
			t.Parallel()
			request := request(nil)
			fill(byJSON(reflect.ValueOf(&request.Pod.Spec).Elem(), field))
			want := byJSON(reflect.ValueOf(request.Pod.Spec), field).Interface()
			result, err := translate.Pod(request, &translate.Policy{})
			if assert.NoError(t, err) {
				assert.Equal(t, want, byJSON(reflect.ValueOf(result.Pod.Spec), field).Interface())
			}
		})
	}
	for field, class := range translate.ContainerFields() {
		if class != translate.Kept || field == "name" {
			continue
		}
		t.Run("spec.containers."+field, func(t *testing.T) {
			t.Parallel()
			request := request(nil)
			fill(byJSON(reflect.ValueOf(&request.Pod.Spec.Containers[0]).Elem(), field))
			want := byJSON(reflect.ValueOf(request.Pod.Spec.Containers[0]), field).Interface()
			result, err := translate.Pod(request, &translate.Policy{})
			if assert.NoError(t, err) {
				assert.Equal(t, want, byJSON(reflect.ValueOf(result.Pod.Spec.Containers[0]), field).Interface())
			}
		})
	}
}

// TestDroppedFieldsAreReported sets each dropped field and wants it gone and recorded.
func TestDroppedFieldsAreReported(t *testing.T) {
	t.Parallel()
	for field, class := range translate.PodFields() {
		if class != translate.Dropped {
			continue
		}
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			request := request(nil)
			fill(byJSON(reflect.ValueOf(&request.Pod.Spec).Elem(), field))
			result, err := translate.Pod(request, &translate.Policy{})
			if !assert.NoError(t, err) {
				return
			}
			assert.True(t, byJSON(reflect.ValueOf(result.Pod.Spec), field).IsZero(), "the field is gone")
			assert.Contains(t, reported(result.Report, translate.ActionDropped), "spec."+field)
		})
	}
}

func TestRefusedFieldsRefuse(t *testing.T) {
	t.Parallel()
	for field, class := range translate.PodFields() {
		if class != translate.Refused {
			continue
		}
		t.Run("spec."+field, func(t *testing.T) {
			t.Parallel()
			request := request(nil)
			fill(byJSON(reflect.ValueOf(&request.Pod.Spec).Elem(), field))
			_, err := translate.Pod(request, &translate.Policy{})
			assert.ErrorContains(t, err, "spec."+field)
		})
	}
	for kind, class := range translate.VolumeFields() {
		if class != translate.Refused {
			continue
		}
		t.Run("volume "+kind, func(t *testing.T) {
			t.Parallel()
			request := request(nil)
			volume := corev1.Volume{Name: "v"}
			fill(byJSON(reflect.ValueOf(&volume.VolumeSource).Elem(), kind))
			request.Pod.Spec.Volumes = []corev1.Volume{volume}
			_, err := translate.Pod(request, &translate.Policy{})
			var refusal *translate.RefusalError
			if assert.ErrorAs(t, err, &refusal) {
				assert.Equal(t, "spec.volumes[v]."+kind, refusal.Problems[0].Field)
				assert.NotEmpty(t, refusal.Problems[0].Remedy)
			}
			policy := &translate.Policy{Volumes: []translate.VolumeRule{{
				Match:  translate.VolumeMatch{Kind: kind},
				Target: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "ours"}},
			}}}
			assert.NoError(t, policy.Validate("policy"))
			result, err := translate.Pod(request, policy)
			if assert.NoError(t, err) {
				assert.Equal(t, policy.Volumes[0].Target, result.Pod.Spec.Volumes[0].VolumeSource)
			}
		})
	}
}

func jsonNames(object reflect.Type) []string {
	var names []string
	for field := range object.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func byJSON(object reflect.Value, name string) reflect.Value {
	for i, candidate := range jsonNames(object.Type()) {
		if candidate == name {
			return object.Field(i)
		}
	}
	return reflect.Value{}
}

// fill makes a value that is not zero.
func fill(value reflect.Value) {
	switch value.Kind() { //nolint:exhaustive // no field of a pod has another kind
	case reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		fill(value.Elem())
	case reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), 1, 1))
		fill(value.Index(0))
	case reflect.Struct:
		if value.NumField() > 0 && value.Field(0).CanSet() {
			fill(value.Field(0))
		}
	case reflect.String:
		value.SetString("some-value")
	case reflect.Bool:
		value.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		value.SetInt(7)
	case reflect.Map:
		value.Set(reflect.MakeMap(value.Type()))
		key := reflect.New(value.Type().Key()).Elem()
		fill(key)
		element := reflect.New(value.Type().Elem()).Elem()
		fill(element)
		value.SetMapIndex(key, element)
	default:
	}
}

func reported(report translate.Report, action translate.Action) []string {
	var fields []string
	for _, change := range report {
		if change.Action == action {
			fields = append(fields, change.Field)
		}
	}
	return fields
}
