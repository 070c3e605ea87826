// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab/offload"
)

// turnKey is the label and the annotation that changes of a pod are seen by.
const turnKey = "soak.test/turn"

// Seen is what both clusters hold.
type Seen struct {
	Origin, Remote []corev1.Pod
	// OriginObjects are ConfigMaps and Secrets of the load, RemoteObjects those that the path has made.
	OriginObjects, RemoteObjects []Object
	// NodeReady is whether the virtual node is.
	NodeReady bool
}

// Object is a ConfigMap or a Secret.
type Object struct {
	metav1.ObjectMeta

	Kind string
	Data map[string]string
}

// Difference is something in which both clusters do not agree.
type Difference struct {
	// UID is the pod's at the origin; empty if it concerns none.
	UID string
	// What it is, in words.
	What string
}

// Differences compares both clusters when nothing changes any more.
func Differences(seen *Seen) []Difference {
	remote := map[string][]*corev1.Pod{}
	for i := range seen.Remote {
		uid := seen.Remote[i].Labels[uidLabel]
		remote[uid] = append(remote[uid], &seen.Remote[i])
	}
	var all []Difference
	if !seen.NodeReady {
		all = append(all, Difference{What: "the virtual node is not ready"})
	}
	for i := range seen.Origin {
		pod := &seen.Origin[i]
		all = append(all, seen.compare(pod, remote[string(pod.UID)])...)
		delete(remote, string(pod.UID))
	}
	for uid, pods := range remote {
		for _, pod := range pods {
			all = append(all, Difference{uid, "pod " + pod.Name + " at the target is an orphan: " + describe(pod)})
		}
	}
	return append(all, seen.orphans()...)
}

// compare compares one pod of the origin with those that stand for it.
func (s *Seen) compare(pod *corev1.Pod, remote []*corev1.Pod) []Difference {
	var all []Difference
	differ := func(format string, args ...any) {
		all = append(all, Difference{string(pod.UID), "pod " + pod.Name + ": " + fmt.Sprintf(format, args...)})
	}
	switch {
	case pod.DeletionTimestamp != nil:
		differ("is still ending at the origin: %s", describe(pod))
		return all
	case pod.Spec.NodeName == "":
		differ("has no node")
		return all
	case len(remote) != 1:
		differ("has %d at the target; it is %s", len(remote), describe(pod))
		return all
	case remote[0].DeletionTimestamp != nil:
		differ("is ending at the target: %s", describe(remote[0]))
		return all
	case pod.Status.Phase == corev1.PodPending:
		differ("does not run: %s; at the target %s", describe(pod), describe(remote[0]))
	}
	far := remote[0]
	for what, values := range map[string][2]any{
		"phase":     {pod.Status.Phase, far.Status.Phase},
		"readiness": {ready(pod), ready(far)},
		"address":   {pod.Status.PodIP, far.Status.PodIP},
		"ready":     {readiness(pod), readiness(far)},
	} {
		if !reflect.DeepEqual(values[0], values[1]) {
			differ("%s at the origin is %v, at the target %v", what, values[0], values[1])
		}
	}
	// One that has ended is not brought up to date any more.
	if far.Status.Phase == corev1.PodSucceeded || far.Status.Phase == corev1.PodFailed {
		return all
	}
	for what, values := range map[string][2]any{
		"label":      {pod.Labels[turnKey], far.Labels[labelPrefix+"soak.test_turn"]},
		"annotation": {pod.Annotations[turnKey], far.Annotations[turnKey]},
		"image":      {pod.Spec.Containers[0].Image, far.Spec.Containers[0].Image},
	} {
		if values[0] != values[1] {
			differ("%s at the origin is %v, at the target %v", what, values[0], values[1])
		}
	}
	for _, text := range s.objects(pod, far) {
		differ("%s", text)
	}
	return all
}

// readiness is which containers are ready.
func readiness(pod *corev1.Pod) map[string]bool {
	all := map[string]bool{}
	for i := range pod.Status.ContainerStatuses {
		all[pod.Status.ContainerStatuses[i].Name] = pod.Status.ContainerStatuses[i].Ready
	}
	return all
}

// objects compares the ConfigMaps and Secrets of a pod's volumes.
func (s *Seen) objects(pod, far *corev1.Pod) []string {
	var problems []string
	for i := range pod.Spec.Volumes {
		kind, name := "", ""
		switch volume := &pod.Spec.Volumes[i]; {
		case volume.ConfigMap != nil:
			kind, name = kindConfigMap, volume.ConfigMap.Name
		case volume.Secret != nil:
			kind, name = kindSecret, volume.Secret.SecretName
		default:
			continue
		}
		at := slices.IndexFunc(s.OriginObjects, func(o Object) bool { return o.Kind == kind && o.Name == name })
		copied := slices.IndexFunc(s.RemoteObjects, func(o Object) bool {
			return o.Kind == kind && o.Annotations[nameAnnotation] == name && owner(&o) == far.UID
		})
		switch {
		case at < 0:
			problems = append(problems, fmt.Sprintf("the load has lost its %s %s", kind, name))
		case copied < 0:
			problems = append(problems, fmt.Sprintf("%s %s is missing at the target", kind, name))
		case !reflect.DeepEqual(s.OriginObjects[at].Data, s.RemoteObjects[copied].Data):
			problems = append(problems, fmt.Sprintf("%s %s has turn %q at the origin and %q at the target", kind, name,
				s.OriginObjects[at].Data[turnData], s.RemoteObjects[copied].Data[turnData]))
		}
	}
	return problems
}

func owner(o *Object) (uid types.UID) {
	for _, reference := range o.OwnerReferences {
		uid = reference.UID
	}
	return uid
}

// orphans are objects at the target whose pod is not there.
func (s *Seen) orphans() []Difference {
	there := map[types.UID]bool{}
	for i := range s.Remote {
		there[s.Remote[i].UID] = true
	}
	var all []Difference
	for i := range s.RemoteObjects {
		if object := &s.RemoteObjects[i]; !there[owner(object)] {
			all = append(all, Difference{object.Labels[uidLabel], fmt.Sprintf("%s %s at the target is an orphan", object.Kind, object.Name)})
		}
	}
	return all
}

// left is what there still is although everything was removed.
func (s *Seen) left() []Difference {
	var all []Difference
	for i := range s.Origin {
		all = append(all, Difference{string(s.Origin[i].UID), "pod " + s.Origin[i].Name + " is left at the origin: " + describe(&s.Origin[i])})
	}
	for i := range s.Remote {
		all = append(all, Difference{s.Remote[i].Labels[uidLabel], "pod " + s.Remote[i].Name + " is left at the target: " + describe(&s.Remote[i])})
	}
	for i := range s.RemoteObjects {
		object := &s.RemoteObjects[i]
		all = append(all, Difference{object.Labels[uidLabel], object.Kind + " " + object.Name + " is left at the target"})
	}
	return all
}

// look reads both clusters.
func (w *world) look(ctx context.Context) (*Seen, error) {
	seen := &Seen{}
	origin, err := w.origin.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the origin's pods: %w", err)
	}
	remote, err := w.caas.CoreV1().Pods(remoteNamespace).List(ctx, metav1.ListOptions{LabelSelector: managed})
	if err != nil {
		return nil, fmt.Errorf("list the target's pods: %w", err)
	}
	seen.Origin, seen.Remote = origin.Items, remote.Items
	if seen.OriginObjects, err = objectsOf(ctx, w.origin, namespace, turnKey); err != nil {
		return nil, err
	}
	if seen.RemoteObjects, err = objectsOf(ctx, w.caas, remoteNamespace, managed); err != nil {
		return nil, err
	}
	node, err := w.origin.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the virtual node: %w", err)
	}
	seen.NodeReady = offload.Ready(node)
	return seen, nil
}

func objectsOf(ctx context.Context, client kubernetes.Interface, namespace, selector string) ([]Object, error) {
	options := metav1.ListOptions{LabelSelector: selector}
	configMaps, err := client.CoreV1().ConfigMaps(namespace).List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list ConfigMaps: %w", err)
	}
	secrets, err := client.CoreV1().Secrets(namespace).List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list Secrets: %w", err)
	}
	var all []Object
	for i := range configMaps.Items {
		all = append(all, Object{configMaps.Items[i].ObjectMeta, kindConfigMap, configMaps.Items[i].Data})
	}
	for i := range secrets.Items {
		data := map[string]string{}
		for key, value := range secrets.Items[i].Data {
			data[key] = string(value)
		}
		all = append(all, Object{secrets.Items[i].ObjectMeta, kindSecret, data})
	}
	return all, nil
}
