// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider/podstatus"
)

// PodClient is the client that the library's PodController gets. It differs from
// a real one in the two calls that the library makes:
//
// Delete is held back. The library deletes a pod's API object when no container
// runs at the origin or when the grace period is over, whether or not the far end
// still holds the pod. Here the provider alone deletes objects, once the far end
// holds nothing more.
//
// UpdateStatus becomes a patch of what changed, to the version of the object that it is a change of: a request that comes
// through late must not undo a later one. When somebody else has touched the object since, the change is made anew from
// what it is then.
type PodClient struct {
	provider *Provider
}

// Pods returns the pods of one namespace.
func (c PodClient) Pods(namespace string) corev1client.PodInterface { //nolint:ireturn // client-go's interface demands it
	return podsOf{PodInterface: c.provider.cfg.Client.CoreV1().Pods(namespace), provider: c.provider}
}

type podsOf struct {
	corev1client.PodInterface
	provider *Provider
}

// Delete only makes sure that the pod is being removed.
func (c podsOf) Delete(_ context.Context, _ string, options metav1.DeleteOptions) error {
	if options.Preconditions != nil && options.Preconditions.UID != nil {
		c.provider.work.Add(*options.Preconditions.UID)
	}
	return nil
}

// UpdateStatus writes the status of pod, if it differs from what the origin has.
func (c podsOf) UpdateStatus(ctx context.Context, pod *corev1.Pod, _ metav1.UpdateOptions) (*corev1.Pod, error) {
	err := c.provider.writeStatus(ctx, pod, &pod.Status)
	if apierrors.IsConflict(err) {
		return pod, nil // it is published again from what the object is then
	}
	return pod, err
}

// writeStatus patches the status of pod's object. A pod that is gone is no error,
// nor is one that has been replaced by another one of the same name as soon as
// the informer has seen it; until then the API server answers with a conflict.
func (p *Provider) writeStatus(ctx context.Context, pod *corev1.Pod, status *corev1.PodStatus) error {
	e, ok := p.table.view(pod.UID)
	if !ok || !e.present {
		return nil
	}
	base, version := e.base(), e.baseVersion()
	if podstatus.Terminal(base) && status.Phase != base.Phase {
		return nil // nothing follows on how a pod ended
	}
	patch, err := statusPatch(pod.UID, version, base, status)
	if err != nil || patch == nil {
		return err
	}
	written, err := p.cfg.Client.CoreV1().Pods(pod.Namespace).
		Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		p.overtaken(pod.UID, version)
		return fmt.Errorf("patch status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	case apierrors.IsInvalid(err):
		// No retry can help. The next report of the pod is another chance.
		logging.From(ctx).Warn("status refused by the API server", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
		p.table.change(pod.UID, func(e *entry) { e.answers = maxAnswers })
		return nil
	case err != nil:
		return fmt.Errorf("patch status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	p.table.change(pod.UID, func(e *entry) {
		e.answers++
		if !e.heardAt.IsZero() {
			p.metrics.statuses.Observe(time.Since(e.heardAt).Seconds())
			e.heardAt = time.Time{}
		}
		if !reached(e.pod.ResourceVersion, written.ResourceVersion) {
			e.written, e.writtenVersion = &written.Status, written.ResourceVersion
		}
	})
	return nil
}

// overtaken has the status published again as soon as another version of the object is known than one that the API server
// has no more.
func (p *Provider) overtaken(uid types.UID, version string) {
	p.table.change(uid, func(e *entry) {
		if e.baseVersion() == version {
			e.overtaken = e.written == nil
			// What was written is not what there is: somebody else wrote since, or the API server has forgotten it, as when
			// its storage is restored from a backup. The informer's versions are then lower, and it would be waited for in vain.
			e.written = nil
		}
		if !e.overtaken {
			p.dirty.Add(uid)
		}
	})
}

// statusPatch is the strategic merge patch from one status to another, or nil. UID and version in it make the API server
// refuse it for any other pod, and for any other state of it.
func statusPatch(uid types.UID, version string, from, to *corev1.PodStatus) ([]byte, error) {
	before, err := json.Marshal(corev1.Pod{Status: *from})
	if err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	after, err := json.Marshal(corev1.Pod{Status: *to})
	if err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	if bytes.Equal(before, after) {
		return nil, nil
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("compare statuses: %w", err)
	}
	if string(patch) == "{}" {
		return nil, nil
	}
	marked := fmt.Appendf(nil, `{"metadata":{"uid":%q,"resourceVersion":%q},`, uid, version)
	return append(marked, patch[1:]...), nil
}
