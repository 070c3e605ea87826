// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// Kinds of objects that pods reference.
const (
	KindConfigMap = "ConfigMap"
	KindSecret    = "Secret"
)

// VersionAbsent is the version of an object that does not exist.
const VersionAbsent = "-"

// Reference names an object that a pod references.
type Reference struct{ Kind, Namespace, Name string }

// dependency is a Reference with what of the pod depends on it.
type dependency struct {
	Reference
	// token: a volume with a ServiceAccount token does; plain: something else.
	token, plain bool
}

// References lists the objects that a pod references, each once, in order: what a
// kubelet watches. Containers that stay at the origin do not count.
func References(pod *corev1.Pod) []Reference {
	all := dependencies(pod)
	list := make([]Reference, 0, len(all))
	for i := range all {
		list = append(list, all[i].Reference)
	}
	return list
}

func dependencies(pod *corev1.Pod) []dependency {
	found := map[Reference]dependency{}
	add := func(kind, name string, token bool) {
		if name == "" {
			return
		}
		reference := Reference{Kind: kind, Namespace: pod.Namespace, Name: name}
		d := found[reference]
		d.Reference, d.token, d.plain = reference, d.token || token, d.plain || !token
		found[reference] = d
	}
	for i := range pod.Spec.Volumes {
		volumeReferences(&pod.Spec.Volumes[i], add)
	}
	for list, annotation := range map[*[]corev1.Container]string{
		&pod.Spec.InitContainers: interlink.AnnotationLocalInitContainers, &pod.Spec.Containers: interlink.AnnotationLocalContainers,
	} {
		local := localNames(pod, annotation)
		for i := range *list {
			if !slices.Contains(local, (*list)[i].Name) {
				environmentReferences(&(*list)[i], add)
			}
		}
	}
	for _, reference := range pod.Spec.ImagePullSecrets {
		add(KindSecret, reference.Name, false)
	}
	return slices.SortedFunc(maps.Values(found), func(a, b dependency) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
}

func volumeReferences(volume *corev1.Volume, add func(kind, name string, token bool)) {
	switch {
	case volume.ConfigMap != nil:
		add(KindConfigMap, volume.ConfigMap.Name, false)
	case volume.Secret != nil:
		add(KindSecret, volume.Secret.SecretName, false)
	case volume.Projected != nil:
		token := hasToken(volume)
		for i := range volume.Projected.Sources {
			switch source := &volume.Projected.Sources[i]; {
			case source.ConfigMap != nil:
				add(KindConfigMap, source.ConfigMap.Name, token)
			case source.Secret != nil:
				add(KindSecret, source.Secret.Name, token)
			}
		}
	}
}

func environmentReferences(container *corev1.Container, add func(kind, name string, token bool)) {
	for i := range container.EnvFrom {
		if from := container.EnvFrom[i].ConfigMapRef; from != nil {
			add(KindConfigMap, from.Name, false)
		}
		if from := container.EnvFrom[i].SecretRef; from != nil {
			add(KindSecret, from.Name, false)
		}
	}
	for i := range container.Env {
		switch from := container.Env[i].ValueFrom; {
		case from == nil:
		case from.ConfigMapKeyRef != nil:
			add(KindConfigMap, from.ConfigMapKeyRef.Name, false)
		case from.SecretKeyRef != nil:
			add(KindSecret, from.SecretKeyRef.Name, false)
		}
	}
}

// hasToken tells volumes with a ServiceAccount token.
func hasToken(volume *corev1.Volume) bool {
	return volume.Projected != nil && slices.ContainsFunc(volume.Projected.Sources, func(s corev1.VolumeProjection) bool {
		return s.ServiceAccountToken != nil
	})
}

// Revision names a state of a pod and of its objects: equal ones need no update. Its
// parts are compared one by one, because tokens are not to be requested anew whenever
// a label changes.
type Revision struct {
	// Pod is what may change in a live pod.
	Pod string
	// Objects is all objects but those of Tokens.
	Objects string
	// Tokens is what stands beside ServiceAccount tokens in their volumes.
	Tokens string
}

// String is the form in which a revision is kept; ParseRevision reads it.
func (r Revision) String() string { return r.Pod + "." + r.Objects + "." + r.Tokens }

// ParseRevision reads a revision; one that is none equals no other.
func ParseRevision(text string) Revision {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return Revision{}
	}
	return Revision{Pod: parts[0], Objects: parts[1], Tokens: parts[2]}
}

// PodRevision is the part of a revision that needs no object.
func PodRevision(pod *corev1.Pod) string {
	state := struct {
		Labels, Annotations map[string]string
		Images              map[string]string
		Tolerations         []corev1.Toleration
		Deadline, Grace     *int64
	}{
		Labels: pod.Labels, Annotations: usersAnnotations(pod), Images: map[string]string{}, Tolerations: pod.Spec.Tolerations,
		Deadline: pod.Spec.ActiveDeadlineSeconds, Grace: pod.Spec.TerminationGracePeriodSeconds,
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			state.Images[list[i].Name] = list[i].Image
		}
	}
	encoded, err := json.Marshal(state)
	if err != nil {
		return ""
	}
	return digest(string(encoded))
}

// usersAnnotations leaves out what this program writes.
func usersAnnotations(pod *corev1.Pod) map[string]string {
	users := map[string]string{}
	for key, value := range pod.Annotations {
		if key != interlink.AnnotationJobID && !strings.HasPrefix(key, "offload.infn.it/") {
			users[key] = value
		}
	}
	return users
}

// RevisionOf is the revision of a pod with objects of these versions.
func RevisionOf(pod *corev1.Pod, version func(Reference) string) Revision {
	var objects, tokens []string
	for _, d := range dependencies(pod) {
		entry := d.Kind + "/" + d.Name + "=" + version(d.Reference)
		if d.plain {
			objects = append(objects, entry)
		}
		if d.token {
			tokens = append(tokens, entry)
		}
	}
	return Revision{Pod: PodRevision(pod), Objects: digest(objects...), Tokens: digest(append(tokens, besideTokens(pod)...)...)}
}

// besideTokens are the pod's own fields in volumes with tokens.
func besideTokens(pod *corev1.Pod) []string {
	var values []string
	for i := range pod.Spec.Volumes {
		if !hasToken(&pod.Spec.Volumes[i]) {
			continue
		}
		for _, source := range pod.Spec.Volumes[i].Projected.Sources {
			if source.DownwardAPI == nil {
				continue
			}
			for _, item := range source.DownwardAPI.Items {
				if item.FieldRef != nil {
					value, _ := field(pod, item.FieldRef.FieldPath)
					values = append(values, item.Path+"="+value)
				}
			}
		}
	}
	return values
}

// digest hashes parts so that no two lists of parts give the same input.
func digest(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		_, _ = sum.Write([]byte(part))
		_, _ = sum.Write([]byte{0})
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// Marks say what a far end holds of a pod.
type Marks struct {
	Revision Revision
	// RefreshAt is when the first of the pod's tokens has to be replaced; zero without any.
	RefreshAt time.Time
}

// MarksOf reads the marks that Collect put on a request's pod.
func MarksOf(pod *corev1.Pod) Marks {
	marks := Marks{Revision: ParseRevision(pod.Annotations[interlink.AnnotationRevision])}
	if at, err := time.Parse(time.RFC3339, pod.Annotations[interlink.AnnotationRefreshAt]); err == nil {
		marks.RefreshAt = at
	}
	return marks
}

// put writes the marks on the copy of a pod that travels.
func (m Marks) put(pod *corev1.Pod) {
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[interlink.AnnotationRevision] = m.Revision.String()
	delete(pod.Annotations, interlink.AnnotationRefreshAt)
	if !m.RefreshAt.IsZero() {
		pod.Annotations[interlink.AnnotationRefreshAt] = m.RefreshAt.UTC().Format(time.RFC3339)
	}
}
