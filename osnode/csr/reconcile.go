// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/logging"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/node"
)

const (
	actionJoin  = "Joining"
	actionServe = "Serving"
	// reasonApproved is the Event of a machine that may join.
	reasonApproved = "CertificateApproved"
)

// Reconcile decides about one request. It may be repeated at any point: a Node that was
// made and not followed by an approval is found again by the request's UID on it.
func (a *Approver) Reconcile(ctx context.Context, key ctrl.Request) (ctrl.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	object := &certificatesv1.CertificateSigningRequest{}
	if err := a.cfg.Reader.Get(ctx, key.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if decided(object) {
		return ctrl.Result{}, nil
	}
	request := Read(object)
	if request.Kind == Stranger {
		return ctrl.Result{}, nil
	}
	facts, err := a.facts(ctx, request)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("gather facts about certificate signing request %q: %w", object.Name, err)
	}
	verdict := Decide(request, facts)
	logging.From(ctx).DebugContext(ctx, "judged certificate signing request", "request", object.Name, "requestor", request.Username,
		"action", verdict.Action, "reason", verdict.Reason)
	switch verdict.Action {
	case Approve:
		return a.approve(ctx, object, request, facts, verdict)
	case Deny:
		return ctrl.Result{}, a.deny(ctx, object, request, facts, verdict)
	case Wait:
		return ctrl.Result{RequeueAfter: max(a.cfg.Recheck, min(facts.waited(request)/recheckShare, recheckMost))}, nil
	case Ignore:
	}
	return ctrl.Result{}, nil
}

// approve makes the Node first: from the moment of the approval the machine can be it.
func (a *Approver) approve(ctx context.Context, object *certificatesv1.CertificateSigningRequest, request Request, facts Facts, verdict Verdict) (ctrl.Result, error) {
	osn := facts.subject(request)
	if request.Kind == Join {
		switch err := a.claim(ctx, osn, facts.Node, request); {
		case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err):
			// Somebody else was faster, and the facts have changed.
			return ctrl.Result{RequeueAfter: a.cfg.Recheck}, nil
		case err != nil:
			return ctrl.Result{}, err
		}
	}
	if err := a.write(ctx, object, certificatesv1.CertificateApproved, verdict); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	a.decisions.WithLabelValues(string(request.Kind), string(Approve), verdict.Reason).Inc()
	logging.From(ctx).InfoContext(ctx, "approved certificate", "request", object.Name, "kind", request.Kind,
		"namespace", osn.Namespace, "openStackNode", osn.Name, "nodeId", osn.Status.NodeID)
	if request.Kind == Join {
		a.cfg.Recorder.Eventf(osn, nil, corev1.EventTypeNormal, reasonApproved, actionJoin,
			"The virtual machine has asked to join as node %s", osn.Status.NodeID)
	}
	return ctrl.Result{}, nil
}

// claim makes the Node for this request, or takes the one that is there. A conflict says
// that another request of the same token was faster.
func (a *Approver) claim(ctx context.Context, osn *osnodev1.OpenStackNode, current *corev1.Node, request Request) error {
	pool, err := a.pool(ctx, osn)
	if err != nil {
		return err
	}
	if current == nil {
		wanted, err := node.For(osn, pool)
		if err != nil {
			return err
		}
		wanted.Annotations = map[string]string{AnnotationRequest: string(request.UID)}
		if err := a.cfg.Client.Create(ctx, wanted); err != nil {
			return fmt.Errorf("create Node %q: %w", wanted.Name, err)
		}
		return nil
	}
	repaired := current.DeepCopy()
	changed := node.Repair(repaired, osn, pool)
	if repaired.Annotations[AnnotationRequest] != string(request.UID) {
		metav1.SetMetaDataAnnotation(&repaired.ObjectMeta, AnnotationRequest, string(request.UID))
		changed = true
	}
	if !changed {
		return nil
	}
	patch := client.MergeFromWithOptions(current, client.MergeFromWithOptimisticLock{})
	if err := a.cfg.Client.Patch(ctx, repaired, patch); err != nil {
		return fmt.Errorf("claim Node %q: %w", current.Name, err)
	}
	return nil
}

func (a *Approver) deny(ctx context.Context, object *certificatesv1.CertificateSigningRequest, request Request, facts Facts, verdict Verdict) error {
	if err := a.write(ctx, object, certificatesv1.CertificateDenied, verdict); err != nil {
		return client.IgnoreNotFound(err)
	}
	a.decisions.WithLabelValues(string(request.Kind), string(Deny), verdict.Reason).Inc()
	logger := logging.From(ctx).With("request", object.Name, "requestor", request.Username, "reason", verdict.Reason, "message", verdict.Message)
	osn := facts.subject(request)
	if osn == nil {
		logger.WarnContext(ctx, "denied certificate of no known OpenStackNode")
		return nil
	}
	logger.WarnContext(ctx, "denied certificate", "namespace", osn.Namespace, "openStackNode", osn.Name)
	action := actionJoin
	if request.Kind == Serve {
		action = actionServe
	}
	a.cfg.Recorder.Eventf(osn, nil, corev1.EventTypeWarning, verdict.Reason, action, "Certificate denied: %s", verdict.Message)
	return nil
}

// write puts the decision on the request. When somebody else was faster it is a conflict,
// and looked at again.
func (a *Approver) write(ctx context.Context, object *certificatesv1.CertificateSigningRequest, decision certificatesv1.RequestConditionType, verdict Verdict) error {
	object = object.DeepCopy()
	now := metav1.NewTime(a.cfg.Clock())
	object.Status.Conditions = append(object.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: decision, Status: corev1.ConditionTrue, Reason: verdict.Reason, Message: verdict.Message,
		LastUpdateTime: now, LastTransitionTime: now,
	})
	if err := a.cfg.Client.SubResource("approval").Update(ctx, object); err != nil {
		return fmt.Errorf("decide certificate signing request %q: %w", object.Name, err)
	}
	return nil
}
