// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Ephemeral translates the ephemeral containers of a pod that was created before, by
// the rules for containers. The error is a *RefusalError. They can have no objects of
// their own: a pod's objects are made when the pod is.
func Ephemeral(request Request, policy *Policy) ([]corev1.EphemeralContainer, error) {
	pod := request.Pod.DeepCopy()
	t := &translation{request: &request, policy: policy, pod: pod, supplied: collect(&request), stripped: map[string]bool{}}
	if problem := identityProblem(pod); problem != nil {
		return nil, &RefusalError{Problems: []Problem{*problem}}
	}
	for _, field := range request.Unknown {
		t.refuse(Problem{Field: field, Rule: "this version does not know the field", Remedy: "remove it"})
	}
	translated := make([]corev1.EphemeralContainer, 0, len(pod.Spec.EphemeralContainers))
	for i := range pod.Spec.EphemeralContainers {
		from := &pod.Spec.EphemeralContainers[i]
		at := fmt.Sprintf("spec.ephemeralContainers[%s]", from.Name)
		common := corev1.Container(from.EphemeralContainerCommon)
		if t.needsObjects(at, &common) {
			continue
		}
		translated = append(translated, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon(t.container(at, &common)),
			TargetContainerName:      from.TargetContainerName,
		})
	}
	if len(t.problems) > 0 {
		return nil, &RefusalError{Problems: t.problems}
	}
	return translated, nil
}

// needsObjects refuses what comes from ConfigMaps and Secrets, optional or not.
func (t *translation) needsObjects(at string, container *corev1.Container) bool {
	before := len(t.problems)
	refuse := func(field, value string) {
		t.refuse(Problem{
			Field: field, Value: value, Rule: "an ephemeral container cannot bring objects to a pod that runs",
			Remedy: "give the value as text, or exec into a container that has it",
		})
	}
	for i, source := range container.EnvFrom {
		field := fmt.Sprintf("%s.envFrom[%d]", at, i)
		switch {
		case source.ConfigMapRef != nil:
			refuse(field+".configMapRef", source.ConfigMapRef.Name)
		case source.SecretRef != nil:
			refuse(field+".secretRef", source.SecretRef.Name)
		}
	}
	for i := range container.Env {
		source, field := container.Env[i].ValueFrom, fmt.Sprintf("%s.env[%s].valueFrom", at, container.Env[i].Name)
		switch {
		case source == nil:
		case source.ConfigMapKeyRef != nil:
			refuse(field+".configMapKeyRef", source.ConfigMapKeyRef.Name)
		case source.SecretKeyRef != nil:
			refuse(field+".secretKeyRef", source.SecretKeyRef.Name)
		}
	}
	return len(t.problems) > before
}
