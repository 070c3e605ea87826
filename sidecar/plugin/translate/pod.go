// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/internal/interlink"
)

// Request is one pod of an origin with the objects that came with it.
type Request struct {
	// Client is the authenticated identity of the sender; empty is DefaultClient.
	Client string
	Pod    *corev1.Pod
	// ConfigMaps, Secrets: duplicates may occur.
	ConfigMaps []corev1.ConfigMap
	Secrets    []corev1.Secret
	// Projected holds the files of projected and downwardAPI volumes, by volume name.
	Projected []corev1.ConfigMap
	// Claims are what the origin knows of the pod's claims, if it tells.
	Claims []interlink.Claim
	// Unknown are paths of fields in the pod's JSON that this version does not know.
	Unknown []string
}

// Result is what runs the pod in the target cluster.
type Result struct {
	// Pod has no SchedulingGates of its own; its namespace is left empty.
	Pod        *corev1.Pod
	ConfigMaps []*corev1.ConfigMap
	Secrets    []*corev1.Secret
	// Claims are shared with other pods, and outlive this one.
	Claims []*corev1.PersistentVolumeClaim
	Report Report
}

// FromWire collects what a plugin request holds.
func FromWire(client string, wire *interlink.PluginPod) Request {
	request := Request{Client: client, Pod: &wire.Pod}
	for i := range wire.Containers {
		request.ConfigMaps = append(request.ConfigMaps, wire.Containers[i].ConfigMaps...)
		request.Secrets = append(request.Secrets, wire.Containers[i].Secrets...)
		request.Projected = append(request.Projected, wire.Containers[i].ProjectedVolumes...)
	}
	if wire.Referenced != nil {
		request.ConfigMaps = append(request.ConfigMaps, wire.Referenced.ConfigMaps...)
		request.Secrets = append(request.Secrets, wire.Referenced.Secrets...)
		request.Projected = append(request.Projected, wire.Referenced.ProjectedVolumes...)
		request.Claims = wire.Referenced.Claims
	}
	return request
}

// translation is the state of one call of Pod.
type translation struct {
	request *Request
	policy  *Policy
	pod     *corev1.Pod
	// origin is OriginLabel of the client.
	origin string
	// identity makes names of created objects unique.
	identity string
	supplied supply
	created  created
	report   Report
	problems []Problem
	missing  []string
	// update: what is missing stays as it is.
	update bool
	// stripped are annotations that the policy leaves out.
	stripped map[string]bool
}

// Pod translates one pod. The error is a *RefusalError when the pod can never run as
// it is specified, and a *MissingError when objects were not supplied with it.
func Pod(request Request, policy *Policy) (Result, error) {
	if problem := identityProblem(request.Pod); problem != nil {
		return Result{}, &RefusalError{Problems: []Problem{*problem}}
	}
	t := begin(&request, policy)
	t.unclassified(&t.pod.Spec)
	spec := t.spec()
	if len(t.problems) > 0 {
		return Result{}, &RefusalError{Problems: t.problems}
	}
	if len(t.missing) > 0 {
		return Result{}, &MissingError{Objects: t.missing}
	}
	return t.result(spec)
}

// begin starts the translation of a pod with a usable identity.
func begin(request *Request, policy *Policy) *translation {
	pod := request.Pod
	t := &translation{request: request, policy: policy, pod: pod, origin: OriginLabel(request.Client)}
	t.identity = digest(t.origin, t.cluster(), pod.Namespace, pod.Name, string(pod.UID))
	t.supplied, t.stripped = collect(request), map[string]bool{}
	return t
}

func (t *translation) cluster() string { return t.pod.Annotations[interlink.AnnotationOriginCluster] }

// result puts together what was translated.
func (t *translation) result(spec corev1.PodSpec) (Result, error) {
	hash, err := specHash(&t.pod.Spec)
	if err != nil {
		return Result{}, err
	}
	labels, annotations := t.metadata(t.origin, t.cluster())
	annotations[AnnotationSpecHash] = hash
	annotations[AnnotationReport] = t.report.Annotation()
	annotations[AnnotationApplied] = t.applied(annotations).annotation()
	remote := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:   RemoteName(t.origin, t.cluster(), t.pod.Namespace, t.pod.Name, string(t.pod.UID)),
			Labels: labels, Annotations: annotations,
		},
		Spec: spec,
	}
	result := Result{Pod: remote, Report: t.report}
	result.ConfigMaps, result.Secrets = t.created.objects(objectLabels(labels))
	if !t.update { // a pod keeps the volumes that it has
		result.Claims = t.created.claimList(labels)
	}
	return result, nil
}

func identityProblem(pod *corev1.Pod) *Problem {
	switch {
	case pod.UID == "" || len(validation.IsValidLabelValue(string(pod.UID))) > 0:
		return &Problem{Field: "metadata.uid", Value: string(pod.UID), Rule: "is no usable UID"}
	case len(validation.IsDNS1123Subdomain(pod.Name)) > 0:
		return &Problem{Field: "metadata.name", Value: pod.Name, Rule: "is no pod name"}
	case len(validation.IsDNS1123Label(pod.Namespace)) > 0:
		return &Problem{Field: "metadata.namespace", Value: pod.Namespace, Rule: "is no namespace name"}
	case len(pod.Spec.Containers) == 0:
		return &Problem{Field: "spec.containers", Rule: "the pod has no container to run here"}
	}
	return nil
}

// specHash lets operators see whether two creates asked for the same thing.
func specHash(spec *corev1.PodSpec) (string, error) {
	encoded, err := json.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("encode spec: %w", err)
	}
	return digest(string(encoded)), nil
}

func (t *translation) refuse(problem Problem) { t.problems = append(t.problems, problem) }

func (t *translation) dropped(field, detail string) {
	t.report = append(t.report, Change{Action: ActionDropped, Field: field, Detail: detail})
}

func (t *translation) mapped(field, detail string) {
	t.report = append(t.report, Change{Action: ActionMapped, Field: field, Detail: detail})
}
