// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// maxSentence bounds what a user is told of the target cluster's answer.
const maxSentence = 2 << 10

// ErrDeleted says that the pod was deleted at its origin before it was created here.
var ErrDeleted = errors.New("the pod was deleted at its origin")

// ClusterError is an answer of the target cluster that ends an operation.
type ClusterError struct {
	// Final is true when no retry can help.
	Final bool
	// Sentence tells a user what happened.
	Sentence string
	Err      error
}

func (f *ClusterError) Error() string { return f.Sentence }

func (f *ClusterError) Unwrap() error { return f.Err }

// IsFinal reports whether no retry of the operation can help.
func IsFinal(err error) bool {
	var failure *ClusterError
	return errors.As(err, &failure) && failure.Final
}

// failure explains what the target cluster answered to an operation on an object.
func failure(operation string, err error) error {
	if err == nil {
		return nil
	}
	f := &ClusterError{Err: err}
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		f.Sentence = "the namespace in the target cluster is being terminated"
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err), podSecurity(err):
		f.Final = true
		f.Sentence = operation + ": the target cluster refuses it: " + reason(err)
	case apierrors.IsForbidden(err):
		f.Sentence = operation + ": the target cluster does not allow it now: " + reason(err)
	case apierrors.IsNotFound(err):
		f.Sentence = operation + ": the target cluster has no such namespace or object: " + reason(err)
	case apierrors.IsUnauthorized(err):
		f.Sentence = operation + ": the target cluster does not accept the sidecar's credentials"
	case apierrors.IsTooManyRequests(err):
		f.Sentence = operation + ": the target cluster is overloaded"
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		f.Sentence = operation + ": the target cluster did not answer in time"
	case reason(err) != "":
		f.Sentence = operation + ": the target cluster answered: " + reason(err)
	default:
		f.Sentence = operation + ": the target cluster cannot be reached"
	}
	return f
}

// podSecurity tells a refusal by the namespace's Pod Security level, which the API
// marks by nothing but its text (k8s.io/pod-security-admission/admission).
func podSecurity(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "violates PodSecurity")
}

// reason is the API server's own text; transport errors, which name hosts, have none.
func reason(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return ""
	}
	text := status.Status().Message
	if len(text) > maxSentence {
		text = strings.ToValidUTF8(text[:maxSentence], "") + "…"
	}
	return text
}

func quoted(kind, namespace, name string) string {
	return fmt.Sprintf("%s %q", kind, namespace+"/"+name)
}
