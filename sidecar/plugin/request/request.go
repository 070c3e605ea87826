// SPDX-License-Identifier: Apache-2.0

// Package request decodes what API servers send to a plugin. Bodies come from the
// network: any bytes give a request or an error, never more.
package request

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kjson "sigs.k8s.io/json"

	"github.com/cloudveneto/caas/internal/interlink"
)

// ErrMalformed is all that a sender is told of a body that is no JSON of the
// expected form; the decoder's text can quote the body.
var ErrMalformed = errors.New("request body is not the JSON that this route takes")

// Create reads a create request: an object, or from senders up to 0.4 a list
// of one. unknown are paths of the pod's spec that this version does not know.
func Create(data []byte) (pod *interlink.PluginPod, unknown []string, err error) {
	data = bytes.TrimSpace(data)
	if len(data) > 0 && data[0] == '[' {
		var list []json.RawMessage
		if json.Unmarshal(data, &list) != nil || len(list) != 1 {
			return nil, nil, fmt.Errorf("%w: a list must hold exactly one pod", ErrMalformed)
		}
		data = bytes.TrimSpace(list[0])
	}
	if len(data) == 0 || data[0] != '{' {
		return nil, nil, ErrMalformed
	}
	pod = &interlink.PluginPod{}
	unknown, err = decode(data, pod)
	return pod, unknown, err
}

// Update reads an update of a pod, which has the form of what virtual kubelets send to
// create one.
func Update(data []byte) (update *interlink.CreateRequest, unknown []string, err error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || data[0] != '{' {
		return nil, nil, ErrMalformed
	}
	update = &interlink.CreateRequest{}
	if unknown, err = decode(data, update); err != nil {
		return nil, nil, err
	}
	if !UsableUID(string(update.Pod.UID)) {
		return nil, nil, ErrMalformed
	}
	return update, unknown, nil
}

// decode reads a message with a pod; unknown are paths of the pod's spec.
func decode(data []byte, message any) (unknown []string, err error) {
	strict, err := kjson.UnmarshalStrict(data, message)
	if err != nil {
		return nil, ErrMalformed
	}
	for _, problem := range strict {
		var field kjson.FieldError
		if !errors.As(problem, &field) || !strings.HasPrefix(problem.Error(), "unknown field") {
			continue
		}
		if path, isSpec := strings.CutPrefix(field.FieldPath(), "pod.spec."); isSpec {
			unknown = append(unknown, "spec."+path)
		}
	}
	return unknown, nil
}

// Pods reads the list of a status request; nothing and null are an empty one.
func Pods(data []byte) ([]corev1.Pod, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, nil
	}
	var pods []corev1.Pod
	if json.Unmarshal(data, &pods) != nil {
		return nil, ErrMalformed
	}
	return pods, nil
}

// Pod reads the pod of a delete request.
func Pod(data []byte) (*corev1.Pod, error) {
	var pod corev1.Pod
	if json.Unmarshal(data, &pod) != nil || !UsableUID(string(pod.UID)) {
		return nil, ErrMalformed
	}
	return &pod, nil
}

// Ephemeral reads a pod whose ephemeral containers are wanted. unknown are paths of
// these that this version does not know.
func Ephemeral(data []byte) (pod *corev1.Pod, unknown []string, err error) {
	pod = &corev1.Pod{}
	strict, err := kjson.UnmarshalStrict(data, pod)
	if err != nil || !UsableUID(string(pod.UID)) {
		return nil, nil, ErrMalformed
	}
	for _, problem := range strict {
		var field kjson.FieldError
		if errors.As(problem, &field) && strings.HasPrefix(problem.Error(), "unknown field") &&
			strings.HasPrefix(field.FieldPath(), "spec.ephemeralContainers") {
			unknown = append(unknown, field.FieldPath())
		}
	}
	return pod, unknown, nil
}

// Logs reads a log request.
func Logs(data []byte) (*interlink.LogRequest, error) {
	var request interlink.LogRequest
	if json.Unmarshal(data, &request) != nil {
		return nil, ErrMalformed
	}
	opts := &request.Opts
	switch {
	case !UsableUID(request.PodUID):
		return nil, fmt.Errorf("pod UID %.64q is no UID", request.PodUID)
	case opts.Tail < 0 || opts.LimitBytes < 0 || opts.SinceSeconds < 0:
		return nil, errors.New("log options must not be negative")
	case opts.SinceSeconds != 0 && !opts.SinceTime.IsZero():
		return nil, errors.New("log options: only one of SinceSeconds and SinceTime can be set")
	}
	return &request, nil
}

// UsableUID reports whether uid can be part of a label selector.
func UsableUID(uid string) bool {
	return uid != "" && len(validation.IsValidLabelValue(uid)) == 0
}
