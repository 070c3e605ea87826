// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/request"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// place is where structs of one type are in a pod.
type place struct {
	heading string
	// within makes the struct in a pod, if need be, and returns it. Asked of a result it may return the zero Value.
	within func(pod *corev1.Pod) reflect.Value
	// path is what reports and refusals call it.
	path string
	// whole says that reports and refusals name it, and not its fields.
	whole bool
}

// places are the structs of a pod's spec that the page has tables of.
func places() map[string]place {
	pointee := reflect.Indirect
	container := func(pod *corev1.Pod) *corev1.Container { return &pod.Spec.Containers[0] }
	init := func(pod *corev1.Pod) *corev1.Container { return only(&pod.Spec.InitContainers) }
	volume := func(pod *corev1.Pod) *corev1.Volume { return only(&pod.Spec.Volumes) }
	at := func(heading, path string, within func(pod *corev1.Pod) any) place {
		return place{heading: heading, path: path, within: func(pod *corev1.Pod) reflect.Value { return pointee(reflect.ValueOf(within(pod))) }}
	}
	all := map[string]place{
		"metadata":       at("ObjectMeta", "metadata", func(pod *corev1.Pod) any { return &pod.ObjectMeta }),
		"spec":           at("PodSpec", "spec", func(pod *corev1.Pod) any { return &pod.Spec }),
		"container":      at("Container", "spec.containers[main]", func(pod *corev1.Pod) any { return container(pod) }),
		"init container": at("Container", "spec.initContainers[]", func(pod *corev1.Pod) any { return init(pod) }),
		"port":           at("ContainerPort", "spec.containers[main].ports[0]", func(pod *corev1.Pod) any { return only(&container(pod).Ports) }),
		"resources":      at("ResourceRequirements", "spec.containers[main].resources", func(pod *corev1.Pod) any { return &container(pod).Resources }),
		"pod resources":  at("ResourceRequirements", "spec.resources", func(pod *corev1.Pod) any { return made(&pod.Spec.Resources) }),
		"variable":       at("EnvVar", "spec.containers[main].env[]", func(pod *corev1.Pod) any { return only(&container(pod).Env) }),
		"value":          at("EnvVarSource", "spec.containers[main].env[].valueFrom", func(pod *corev1.Pod) any { return made(&only(&container(pod).Env).ValueFrom) }),
		"variables":      at("EnvFromSource", "spec.containers[main].envFrom[0]", func(pod *corev1.Pod) any { return only(&container(pod).EnvFrom) }),
		"pod security":   at("PodSecurityContext", "spec.securityContext", func(pod *corev1.Pod) any { return made(&pod.Spec.SecurityContext) }),
		"security":       at("SecurityContext", "spec.containers[main].securityContext", func(pod *corev1.Pod) any { return made(&container(pod).SecurityContext) }),
		"volume":         at("Volume", "spec.volumes[]", func(pod *corev1.Pod) any { return volume(pod) }),
		"source":         at("VolumeSource", "spec.volumes[]", func(pod *corev1.Pod) any { return &volume(pod).VolumeSource }),
		"projection":     at("VolumeProjection", "spec.volumes[]", func(pod *corev1.Pod) any { return only(&made(&volume(pod).Projected).Sources) }),
		"affinity":       at("Affinity", "spec.affinity", func(pod *corev1.Pod) any { return made(&pod.Spec.Affinity) }),
		"dns":            at("PodDNSConfig", "spec.dnsConfig", func(pod *corev1.Pod) any { return made(&pod.Spec.DNSConfig) }),
	}
	for _, name := range []string{"source", "projection"} {
		one := all[name]
		one.whole = true
		all[name] = one
	}
	return all
}

// made is what a pointer points to, made if it was nil.
func made[T any](pointer **T) *T {
	if *pointer == nil {
		*pointer = new(T)
	}
	return *pointer
}

// only is the first entry of a list, made if there was none.
func only[T any](list *[]T) *T {
	if len(*list) == 0 {
		*list = make([]T, 1)
	}
	return &(*list)[0]
}

// TestFates sets each field of the tables, alone, to a value, sends the pod as the API server does, and wants of the
// translation what the page says.
func TestFates(t *testing.T) {
	t.Parallel()
	for name, where := range places() {
		for _, one := range compatibility(t, where.heading) {
			t.Run(name+"/"+one.field, func(t *testing.T) {
				t.Parallel()
				one.holds(t, where, one.fate, &translate.Policy{})
				if one.sited != "" {
					one.holds(t, where, one.sited, site())
				}
			})
		}
	}
}

// holds tries one field.
func (r row) holds(t *testing.T, where place, fate string, policy *translate.Policy) {
	t.Helper()
	pod := origin()
	field := byName(where.within(pod), r.field)
	require.True(t, field.IsValid())
	set(t, field, where.heading+"."+r.field)
	result, err := send(t, pod, policy)
	path := where.path + "." + r.field
	if where.whole {
		path = where.path
	}
	if fate == "refused" {
		var refusal *translate.RefusalError
		require.ErrorAs(t, err, &refusal)
		assert.True(t, slices.ContainsFunc(refusal.Problems, func(p translate.Problem) bool {
			return within(p.Field, path) && (!where.whole || strings.HasSuffix(p.Field, "."+r.field))
		}), "%s is not in %v", path, err)
		return
	}
	require.NoError(t, err)
	var got reflect.Value
	if there := where.within(result.Pod); there.IsValid() {
		got = byName(there, r.field)
	}
	changed := !equality.Semantic.DeepEqual(field.Interface(), got.Interface())
	recorded := func(action translate.Action) bool {
		return slices.ContainsFunc(result.Report, func(c translate.Change) bool {
			return c.Action == action && within(c.Field, path)
		})
	}
	switch fate {
	case "kept":
		assert.False(t, changed, "%v became %v", field, got)
		assert.False(t, recorded(translate.ActionDropped) || recorded(translate.ActionMapped), result.Report)
	case "mapped":
		assert.True(t, changed || recorded(translate.ActionMapped), "it is as it was")
		if got.IsZero() {
			assert.True(t, recorded(translate.ActionMapped) || tells(result.Pod, field), "it is gone without a trace")
		}
	case "dropped":
		assert.True(t, changed)
		assert.True(t, recorded(translate.ActionDropped), "no record in %v", result.Report)
		assert.Contains(t, result.Pod.Annotations[translate.AnnotationReport], `"dropped"`)
	case "own":
		assert.True(t, got.IsZero(), "the origin's %v is not the target's %v", field, got)
	}
}

// set gives a field of a heading a value.
func set(t *testing.T, field reflect.Value, name string) {
	t.Helper()
	if value, found := telling()[name]; found {
		field.Set(reflect.ValueOf(value))
		return
	}
	fill(t, field)
}

// within tells whether a path is at or below another. Names in brackets do not count: a filled field may have renamed them.
func within(path, above string) bool {
	bare := func(text string) string {
		var out strings.Builder
		depth := 0
		for _, r := range text {
			switch {
			case r == '[':
				depth++
			case r == ']':
				depth--
			case depth == 0:
				out.WriteRune(r)
			}
		}
		return out.String()
	}
	path, above = bare(path), bare(above)
	return path == above || strings.HasPrefix(path, above+".")
}

// tells reports whether a value is in a label or an annotation of the created pod.
func tells(pod *corev1.Pod, value reflect.Value) bool {
	text := fmt.Sprint(value)
	known := slices.Concat(slices.Collect(maps.Values(pod.Labels)), slices.Collect(maps.Values(pod.Annotations)))
	return slices.Contains(known, text)
}

// origin is a pod with nothing but what every pod has.
func origin() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod", Namespace: "physics", UID: "u1"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}}},
	}
}

// send translates a pod after its way over the wire, with the objects that a virtual kubelet would send along.
func send(t *testing.T, pod *corev1.Pod, policy *translate.Policy) (translate.Result, error) {
	t.Helper()
	object := metav1.ObjectMeta{Name: word}
	files := corev1.ConfigMap{Data: map[string]string{word: "content"}}
	if len(pod.Spec.Volumes) > 0 {
		files.Name = pod.Spec.Volumes[0].Name
	}
	encoded, err := json.Marshal(interlink.PluginPod{Pod: *pod, Referenced: &interlink.ReferencedObjects{
		ConfigMaps: []corev1.ConfigMap{{ObjectMeta: object}}, Secrets: []corev1.Secret{{ObjectMeta: object}},
		ProjectedVolumes: []corev1.ConfigMap{files},
	}})
	require.NoError(t, err)
	wire, unknown, err := request.Create(encoded)
	require.NoError(t, err)
	require.Empty(t, unknown)
	result, err := translate.Pod(translate.FromWire("", wire), policy)
	var refusal *translate.RefusalError
	if err != nil && !errors.As(err, &refusal) {
		require.NoError(t, err)
	}
	return result, err
}
