// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/internal/interlink"
)

const (
	// maxName leaves room for the hash in the name of an object.
	maxName = 253 - 1 - hashLength
	// hashLength is that of the hash in an event's name.
	hashLength = 20
	// maxWord is the API server's limit for reason, action and reporting instance.
	maxWord = 128
	// unknownComponent stands for one whose name the API server would not take.
	unknownComponent = "interlink"
)

// write makes the origin have an event as the far end has it. A node's identity may
// create and patch events but not read them, so what is not known is tried.
func (m *Mirror) write(ctx context.Context, pod corev1.ObjectReference, at state) error {
	event := m.event(pod, &at.wanted)
	events := m.cfg.Client.CoreV1().Events(pod.Namespace)
	if !at.written {
		_, err := events.Create(ctx, event, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	patch, err := json.Marshal(map[string]any{
		"count": event.Count, "lastTimestamp": event.LastTimestamp, "message": event.Message, "type": event.Type,
	})
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	_, err = events.Patch(ctx, event.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) { // its time at the origin is over
		_, err = events.Create(ctx, event, metav1.CreateOptions{})
	}
	return err
}

// hopeless reports whether no retry can help.
func hopeless(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err)
}

// event is the origin's Event. It has both forms of times, because readers look for
// either; with eventTime the API server wants an action and who reports.
func (m *Mirror) event(pod corev1.ObjectReference, from *interlink.PodEvent) *corev1.Event {
	pod.FieldPath = from.FieldPath
	component := from.Component
	if len(validation.IsQualifiedName(component)) > 0 {
		component = unknownComponent
	}
	reason := word(from.Reason, "Unknown")
	kind := from.Type
	if kind != corev1.EventTypeWarning {
		kind = corev1.EventTypeNormal
	}
	last := from.Last
	if last.Before(&from.First) {
		last = from.First
	}
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: pod.Namespace, Name: name(pod.Name, from.ID)},
		InvolvedObject: pod, Reason: reason, Message: interlink.Shorten(from.Message, interlink.MaxEventMessage), Type: kind, Count: max(from.Count, 1),
		FirstTimestamp: metav1.NewTime(from.First.Time), LastTimestamp: metav1.NewTime(last.Time), EventTime: from.First,
		Source:              corev1.EventSource{Component: component, Host: m.cfg.Node},
		ReportingController: component, ReportingInstance: word(m.cfg.Node, unknownComponent), Action: word(from.Action, reason),
	}
}

// name is the same for the same event of the far end, whenever it is written.
func name(pod, id string) string {
	sum := sha256.Sum256([]byte(id))
	if len(pod) > maxName {
		pod = strings.TrimRight(pod[:maxName], "-.")
	}
	return pod + "." + hex.EncodeToString(sum[:])[:hashLength]
}

func word(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return interlink.Shorten(text, maxWord)
}
