// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// identify makes sure that the object stays until its machine is gone, fills what the
// spec leaves open, and finds out whose it is. Nothing is made anywhere before.
func (r *Reconciler) identify(ctx context.Context, p *pass) (flow, error) {
	settings, refusal := r.Cloud.Settings(r.provider(p.osn))
	p.settings = settings
	if err := r.adorn(ctx, p, refusal == nil); err != nil {
		return stop, err
	}
	if p.osn.Status.NodeID == "" {
		p.osn.Status.NodeID = r.newNodeID(p)
		waited := max(p.now.Sub(p.osn.CreationTimestamp.Time), 0)
		r.remember(p.osn.UID, func(m *memory) { m.complete, m.overhead = true, waited })
	}
	if refusal != nil {
		if p.osn.Status.Server != nil {
			r.trouble(p, "", refusal)
			return stop, nil
		}
		r.refuse(p, osnodev1.ConditionSpecResolved, refusal)
		return stop, nil
	}
	p.osn.Status.Provider = settings.DisplayName
	p.account = account(p.osn)
	return r.own(ctx, p)
}

// newNodeID is the object's name with the time in milliseconds. Objects of one name in
// two namespaces must not get the same in one millisecond: Nodes have no namespace.
func (r *Reconciler) newNodeID(p *pass) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastID = max(p.now.UnixMilli(), r.lastID+1)
	return fmt.Sprintf("%s-%d", p.osn.Name, r.lastID)
}

func (r *Reconciler) provider(osn *osnodev1.OpenStackNode) string {
	if osn.Spec.Provider != "" {
		return osn.Spec.Provider
	}
	return r.DefaultProvider
}

// adorn writes the finalizer and the defaults, at once. A spec that has an empty string
// where a default belongs cannot be changed any more; its defaults stay in memory.
func (r *Reconciler) adorn(ctx context.Context, p *pass, configured bool) error {
	finalize := func(osn *osnodev1.OpenStackNode) { controllerutil.AddFinalizer(osn, osnodev1.Finalizer) }
	if !configured {
		return r.patch(ctx, p, finalize)
	}
	err := r.patch(ctx, p, func(osn *osnodev1.OpenStackNode) {
		finalize(osn)
		r.fill(&osn.Spec, p.settings)
	})
	if apierrors.IsInvalid(err) {
		err = r.patch(ctx, p, finalize)
	}
	r.fill(&p.osn.Spec, p.settings)
	return err
}

func (r *Reconciler) fill(spec *osnodev1.OpenStackNodeSpec, settings cloud.Settings) {
	for value, standard := range map[*string]string{
		&spec.Provider:         settings.ID,
		&spec.Region:           settings.Region,
		&spec.AvailabilityZone: settings.AvailabilityZone,
	} {
		if *value == "" {
			*value = standard
		}
	}
	if spec.Image == nil {
		spec.Image = &osnodev1.ImageReference{ID: new(""), Name: settings.ImageName}
	}
	if spec.SecurityGroups == nil {
		spec.SecurityGroups = settings.SecurityGroups
	}
	if spec.UserData == nil {
		spec.UserData = new("")
	}
}

func account(osn *osnodev1.OpenStackNode) cloud.Account {
	return cloud.Account{
		Provider: osn.Spec.Provider, Region: osn.Spec.Region,
		ProjectID:   osn.Labels[osnodev1.LabelProjectID],
		ProjectName: osn.Labels[osnodev1.LabelProjectName],
		UserID:      osn.Labels[osnodev1.LabelUserID],
	}
}

// own believes the owner's labels only if the namespace is bound to the same project. A
// machine that is there already is looked after in any case.
func (r *Reconciler) own(ctx context.Context, p *pass) (flow, error) {
	namespace := &corev1.Namespace{}
	if err := r.Client.Get(ctx, types.NamespacedName{Name: p.osn.Namespace}, namespace); err != nil {
		return stop, fmt.Errorf("get namespace %q: %w", p.osn.Namespace, err)
	}
	problem := ""
	switch bound := namespace.Labels[osnodev1.LabelProjectID]; {
	case bound == "":
		problem = fmt.Sprintf("The namespace %s belongs to no OpenStack project", p.osn.Namespace)
	case p.account.ProjectID == "" || p.account.UserID == "":
		problem = "The node's owner is not known: create it again, logged in to OpenStack"
	case p.account.ProjectID != bound:
		problem = fmt.Sprintf("The node's project is not that of the namespace %s", p.osn.Namespace)
	}
	current := find(p.osn, osnodev1.ConditionOwnerAuthorized)
	if problem == "" {
		if current != nil && current.Reason == osnodev1.ReasonOwnerUnknown {
			p.set(osnodev1.ConditionOwnerAuthorized, metav1.ConditionUnknown, osnodev1.ReasonPending, "Asking OpenStack")
		}
		return goOn, nil
	}
	if current == nil || current.Reason != osnodev1.ReasonOwnerUnknown {
		p.warn(osnodev1.ReasonOwnerUnknown, "Identify", problem)
	}
	p.set(osnodev1.ConditionOwnerAuthorized, metav1.ConditionFalse, osnodev1.ReasonOwnerUnknown, problem)
	if p.osn.Status.Server != nil || p.osn.Status.Intent != nil {
		return goOn, nil
	}
	p.in(r.Timers.Authorization)
	return stop, nil
}
