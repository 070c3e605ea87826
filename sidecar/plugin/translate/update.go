// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Update translates what a pod that was created before has become. Objects that did
// not come with the request are left out of the result. With a refusal the objects of
// the result are good nevertheless: a pod that the policy would not take any more
// still needs its tokens.
func Update(request Request, policy *Policy) (Result, error) {
	if problem := identityProblem(request.Pod); problem != nil {
		return Result{}, &RefusalError{Problems: []Problem{*problem}}
	}
	t := begin(&request, policy)
	t.update = true
	t.unclassified(&t.pod.Spec)
	result, err := t.result(t.spec())
	if err == nil && len(t.problems) > 0 {
		return result, &RefusalError{Problems: t.problems}
	}
	return result, err
}

// Applied is what the origin last asked for, where the target cluster may have made
// something else of it: only a change at the origin changes the created pod.
type Applied struct {
	// Images are those of the containers at the origin, by name.
	Images map[string]string `json:"images,omitempty"`
	// Annotations are the keys that came from the origin.
	Annotations []string `json:"annotations,omitempty"`
}

// AppliedTo reads what was last applied to a created pod; ok is false when nothing
// says so.
func AppliedTo(pod *corev1.Pod) (applied Applied, ok bool) {
	return applied, json.Unmarshal([]byte(pod.Annotations[AnnotationApplied]), &applied) == nil
}

func (t *translation) applied(annotations map[string]string) Applied {
	applied := Applied{Images: map[string]string{}}
	for _, list := range [][]corev1.Container{t.pod.Spec.InitContainers, t.pod.Spec.Containers} {
		for i := range list {
			applied.Images[list[i].Name] = list[i].Image
		}
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if _, sites := t.policy.Annotations[key]; !sites && !ownAnnotation(key) {
			applied.Annotations = append(applied.Annotations, key)
		}
	}
	return applied
}

func (a Applied) annotation() string {
	encoded, err := json.Marshal(a)
	if err != nil {
		return "{}"
	}
	return string(encoded)
}
