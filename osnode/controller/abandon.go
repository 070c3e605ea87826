// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// AbandonedConfigMap has what was left in OpenStack by an administrator's order, in the
// controller's namespace: for each UID, where it is.
const AbandonedConfigMap = "osnode-abandoned"

// abandoned is a machine that nobody looks after any more.
type abandoned struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	NodeID    string `json:"nodeID"`
	Server    string `json:"server,omitempty"`
	Provider  string `json:"provider"`
	Region    string `json:"region"`
	ProjectID string `json:"projectID"`
	Reason    string `json:"reason"`
	At        string `json:"at"`
}

func (r *Reconciler) abandons(p *pass) bool {
	return p.osn.Annotations[osnodev1.AnnotationAbandon] == annotated
}

// overdue tells that a machine has not gone for longer than one that does takes.
func (r *Reconciler) overdue(p *pass) bool {
	return p.now.Sub(p.osn.DeletionTimestamp.Time) > 2*r.Timers.DeleteAgain && deletionAsked(p)
}

// abandon writes down what is left, where an administrator finds it, and lets the object
// go without it.
func (r *Reconciler) abandon(ctx context.Context, p *pass, reason string) (flow, error) {
	left := abandoned{
		Namespace: p.osn.Namespace, Name: p.osn.Name, NodeID: p.osn.Status.NodeID,
		Provider: p.account.Provider, Region: p.account.Region, ProjectID: p.account.ProjectID,
		Reason: reason, At: p.now.UTC().Format(time.RFC3339),
	}
	if p.osn.Status.Server != nil {
		left.Server = p.osn.Status.Server.ID
	}
	text, err := json.Marshal(left)
	if err != nil {
		return stop, fmt.Errorf("abandoned server: %w", err)
	}
	record := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: AbandonedConfigMap}}
	if err := r.Client.Create(ctx, record.DeepCopy()); err != nil && !apierrors.IsAlreadyExists(err) {
		return stop, fmt.Errorf("record abandoned server: %w", err)
	}
	data, err := json.Marshal(map[string]any{"data": map[string]string{string(p.osn.UID): string(text)}})
	if err != nil {
		return stop, fmt.Errorf("abandoned server: %w", err)
	}
	if err := r.Client.Patch(ctx, record, client.RawPatch(mergePatch, data)); err != nil {
		return stop, fmt.Errorf("record abandoned server: %w", err)
	}
	p.warn(osnodev1.ReasonAbandoned, "AbandonServer", fmt.Sprintf(
		"The virtual machine %s in the project %s was left in OpenStack: %s", left.Server, left.ProjectID, reason))
	r.metrics.servers.WithLabelValues("abandoned").Inc()
	return goOn, nil
}
