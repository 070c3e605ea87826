// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"fmt"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// CreatePod takes the pod in and never fails: the library would write a final
// status for an error. What goes wrong later is told in events and in the status.
func (p *Provider) CreatePod(_ context.Context, pod *corev1.Pod) error {
	p.observe(pod, false)
	return nil
}

// UpdatePod does nothing: the informer reported the change already, see observe.
func (p *Provider) UpdatePod(context.Context, *corev1.Pod) error { return nil }

// DeletePod makes sure that the pod is worked on; its removal started when the
// informer reported the deletion.
func (p *Provider) DeletePod(_ context.Context, pod *corev1.Pod) error {
	p.work.Add(pod.UID)
	return nil
}

// GetPod returns the origin's current pod of that name, if the provider has it.
// The pod MUST NOT be changed.
func (p *Provider) GetPod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	pod, err := p.lister.Pods(namespace).Get(name)
	if err != nil {
		return nil, errdefs.NotFound(fmt.Sprintf("pod %s/%s is not on this node", namespace, name))
	}
	e, ok := p.table.view(pod.UID)
	if !ok {
		return nil, errdefs.NotFound(fmt.Sprintf("pod %s/%s is not known yet", namespace, name))
	}
	return e.pod, nil
}

// GetPodStatus returns the status that was last reported for the pod.
func (p *Provider) GetPodStatus(ctx context.Context, namespace, name string) (*corev1.PodStatus, error) {
	pod, err := p.GetPod(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	e, ok := p.table.view(pod.UID)
	if !ok {
		return &pod.Status, nil
	}
	return p.previous(&e), nil
}

// GetPods returns the origin's pods that the provider has.
func (p *Provider) GetPods(context.Context) ([]*corev1.Pod, error) {
	pods, err := p.lister.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list pods of the node: %w", err)
	}
	list := make([]*corev1.Pod, 0, len(pods))
	for _, pod := range pods {
		if _, ok := p.table.view(pod.UID); ok {
			list = append(list, pod)
		}
	}
	return list, nil
}

// NotifyPods registers where statuses are reported to.
func (p *Provider) NotifyPods(_ context.Context, notify func(*corev1.Pod)) {
	p.mu.Lock()
	p.notify = notify
	p.mu.Unlock()
	for _, uid := range p.table.uids() {
		p.dirty.Add(uid)
	}
}
