// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/provider/podstatus"
)

// The informer's handlers keep the table in step with the origin by UID. Nothing
// depends on the library's own calls: it works by name, and calls neither
// CreatePod nor DeletePod when a pod is replaced by one of the same name.

func (p *Provider) onAdd(object any, initial bool) {
	if pod, ok := object.(*corev1.Pod); ok {
		p.observe(pod, initial)
	}
}

func (p *Provider) onUpdate(before, after any) {
	old, okOld := before.(*corev1.Pod)
	pod, ok := after.(*corev1.Pod)
	if !ok || !okOld {
		return
	}
	if old.UID != pod.UID {
		p.observeGone(old)
	}
	p.observe(pod, false)
}

func (p *Provider) onDelete(object any) {
	if pod, ok := lastKnown(object).(*corev1.Pod); ok {
		p.observeGone(pod)
	}
}

// observe takes in the origin's object. A pod that was there when this process
// started may be held by the far end already. A status that others have changed, as
// the node controller does when the virtual node was away, is told again.
func (p *Provider) observe(pod *corev1.Pod, inherited bool) {
	wake, changed, restore, again := false, false, false, false
	p.table.ensure(pod.UID, func(e *entry, fresh bool) {
		changed = !fresh && updatable(e.pod, pod)
		wake = fresh || !e.present || asksForWork(e.pod, pod)
		if fresh && inherited {
			e.held = holdsMaybe
		}
		arrived := !fresh && e.status != nil && podstatus.Equal(e.base(), e.status)
		e.pod, e.present, e.orphan = pod, true, false
		if e.written != nil && reached(pod.ResourceVersion, e.writtenVersion) {
			e.written = nil
		}
		again, e.overtaken = e.overtaken, false
		if arrived && !podstatus.Equal(e.base(), e.status) {
			restore, e.answers = true, 0
		}
	})
	switch {
	case wake:
		p.work.Add(pod.UID)
	case changed:
		p.work.AddAfter(pod.UID, p.cfg.Debounce)
	}
	if again {
		p.dirty.Add(pod.UID)
	}
	if restore {
		p.dirty.AddAfter(pod.UID, restoreAfter)
	}
}

// asksForWork reports whether a change of the origin's object is one that the far end has to hear of at once.
func asksForWork(before, now *corev1.Pod) bool {
	return (before.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil) ||
		(!podstatus.Terminal(&before.Status) && podstatus.Terminal(&now.Status)) ||
		len(before.Spec.EphemeralContainers) < len(now.Spec.EphemeralContainers)
}

func (p *Provider) observeGone(pod *corev1.Pod) {
	known := p.table.change(pod.UID, func(e *entry) {
		e.pod, e.present = pod, false
	})
	if known {
		p.work.Forget(pod.UID)
		p.work.Add(pod.UID)
	}
}

// reached reports whether an object's version is as new as another one of the
// same object. Kubernetes promises that these are ordered numbers.
func reached(version, other string) bool {
	if version == other {
		return true
	}
	have, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return true
	}
	want, err := strconv.ParseUint(other, 10, 64)
	return err != nil || have >= want
}
