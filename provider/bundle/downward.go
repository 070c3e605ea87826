// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// downward collects the files of a downwardAPI volume, with the origin's values.
func (b *build) downward(content files, items []corev1.DownwardAPIVolumeFile) error {
	for _, item := range items {
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			var known bool
			if text, known = field(b.origin, item.FieldRef.FieldPath); !known {
				err = refused("downwardAPI file %q refers to %q, which cannot be offloaded in a volume", item.Path, item.FieldRef.FieldPath)
			}
		case item.ResourceFieldRef != nil:
			text, err = b.resource(item.ResourceFieldRef, item.ResourceFieldRef.ContainerName)
		}
		if err != nil {
			return err
		}
		content[item.Path] = []byte(text)
	}
	return nil
}

// field is the value of a fieldRef that only the origin knows; the addresses of
// the running pod are not among them.
func field(pod *corev1.Pod, path string) (string, bool) {
	if name, key, ok := subscript(path); ok {
		switch name {
		case "metadata.labels":
			return pod.Labels[key], true
		case "metadata.annotations":
			return pod.Annotations[key], true
		}
		return "", false
	}
	switch path {
	case "metadata.name":
		return pod.Name, true
	case "metadata.namespace":
		return pod.Namespace, true
	case "metadata.uid":
		return string(pod.UID), true
	case "metadata.labels":
		return lines(pod.Labels), true
	case "metadata.annotations":
		return lines(pod.Annotations), true
	case "spec.nodeName":
		return pod.Spec.NodeName, true
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, true
	}
	return "", false
}

// subscript splits metadata.labels['key'].
func subscript(path string) (name, key string, ok bool) {
	name, rest, ok := strings.Cut(path, "['")
	if !ok {
		return "", "", false
	}
	key, ok = strings.CutSuffix(rest, "']")
	return name, key, ok
}

// lines writes a map the way a kubelet does: sorted, quoted, one per line.
func lines(values map[string]string) string {
	list := make([]string, 0, len(values))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		list = append(list, key+"="+strconv.Quote(values[key]))
	}
	return strings.Join(list, "\n")
}

// resource is the value of a resourceFieldRef of one container.
func (b *build) resource(reference *corev1.ResourceFieldSelector, container string) (string, error) {
	owner := findContainer(b.origin, container)
	if owner == nil {
		return "", refused("resourceFieldRef names container %q, which the pod does not have", container)
	}
	kind, name, _ := strings.Cut(reference.Resource, ".")
	wanted := corev1.ResourceName(name)
	var amount resource.Quantity
	switch kind {
	case "limits":
		limit, ok := owner.Resources.Limits[wanted]
		if !ok {
			limit = b.collector.cfg.Allocatable()[wanted]
		}
		amount = limit
	case "requests":
		request, ok := owner.Resources.Requests[wanted]
		if !ok {
			request = owner.Resources.Limits[wanted]
		}
		amount = request
	default:
		return "", refused("resourceFieldRef names resource %q; it must begin with limits. or requests.", reference.Resource)
	}
	divisor := reference.Divisor
	if divisor.IsZero() {
		divisor = *resource.NewQuantity(1, resource.DecimalSI)
	}
	if wanted == corev1.ResourceCPU {
		return quotient(amount.MilliValue(), divisor.MilliValue()), nil
	}
	return quotient(amount.Value(), divisor.Value()), nil
}

// quotient rounds up, as a kubelet does.
func quotient(amount, divisor int64) string {
	if divisor <= 0 {
		divisor = 1
	}
	whole := amount / divisor
	if amount%divisor > 0 {
		whole++
	}
	return fmt.Sprint(whole)
}

func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
