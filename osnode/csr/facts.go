// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"context"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// facts gathers what a decision needs: which OpenStackNode it may be from the cache, and
// how things are from the API server.
func (a *Approver) facts(ctx context.Context, request Request) (Facts, error) {
	facts := Facts{Began: a.since(), Now: a.cfg.Clock(), Limits: a.cfg.Limits}
	var err error
	if request.Kind == Serve {
		if facts.OSNodes, err = a.osnodes(ctx, client.MatchingFields{indexNodeID: request.NodeID}); err != nil {
			return Facts{}, err
		}
		if len(facts.OSNodes) == 0 {
			facts.Node, err = a.node(ctx, request.NodeID)
		}
		return facts, err
	}
	if facts.OSNodes, err = a.tokenOwners(ctx, request.Token); err != nil || len(facts.OSNodes) != 1 {
		return facts, err
	}
	if facts.Node, err = a.node(ctx, facts.OSNodes[0].Status.NodeID); err != nil {
		return Facts{}, err
	}
	facts.Others, err = a.others(ctx, request)
	return facts, err
}

// tokenOwners asks the API server before it finds nobody: a token's label is written
// shortly before a machine is asked for, and the cache may be behind.
func (a *Approver) tokenOwners(ctx context.Context, token string) ([]osnodev1.OpenStackNode, error) {
	secret := tokenSecret + token
	found, err := a.osnodes(ctx, client.MatchingFields{indexToken: secret})
	if err != nil || len(found) > 0 {
		return found, err
	}
	var list osnodev1.OpenStackNodeList
	if err := a.cfg.Reader.List(ctx, &list, client.MatchingLabels{osnodev1.LabelSecret: secret}); err != nil {
		return nil, fmt.Errorf("list OpenStackNodes with Secret %s: %w", secret, err)
	}
	return list.Items, nil
}

// osnodes finds in the cache, and reads the present state of what it found.
func (a *Approver) osnodes(ctx context.Context, by client.MatchingFields) ([]osnodev1.OpenStackNode, error) {
	var list osnodev1.OpenStackNodeList
	if err := a.cfg.Client.List(ctx, &list, by); err != nil {
		return nil, fmt.Errorf("find OpenStackNodes: %w", err)
	}
	var fresh []osnodev1.OpenStackNode
	for i := range list.Items {
		var osn osnodev1.OpenStackNode
		err := a.cfg.Reader.Get(ctx, client.ObjectKeyFromObject(&list.Items[i]), &osn)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read OpenStackNode %s/%s: %w", list.Items[i].Namespace, list.Items[i].Name, err)
		}
		fresh = append(fresh, osn)
	}
	return fresh, nil
}

// node is nil if there is none.
func (a *Approver) node(ctx context.Context, name string) (*corev1.Node, error) {
	if name == "" {
		return nil, nil // no name, no Node
	}
	current := &corev1.Node{}
	err := a.cfg.Reader.Get(ctx, types.NamespacedName{Name: name}, current)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil // none is an answer
	case err != nil:
		return nil, fmt.Errorf("read Node %q: %w", name, err)
	default:
		return current, nil
	}
}

func (a *Approver) others(ctx context.Context, request Request) ([]certificatesv1.CertificateSigningRequest, error) {
	var list certificatesv1.CertificateSigningRequestList
	err := a.cfg.Reader.List(ctx, &list, client.MatchingFields{"spec.signerName": certificatesv1.KubeAPIServerClientKubeletSignerName})
	if err != nil {
		return nil, fmt.Errorf("list certificate signing requests: %w", err)
	}
	return slices.DeleteFunc(list.Items, func(other certificatesv1.CertificateSigningRequest) bool {
		return other.Spec.Username != request.Username || other.UID == request.UID
	}), nil
}

// pool is the OpenStackNodePool that made the node, nil if none did or it is gone. Only
// the owner reference counts: the label says less.
func (a *Approver) pool(ctx context.Context, osn *osnodev1.OpenStackNode) (*osnodev1.OpenStackNodePool, error) {
	owner := metav1.GetControllerOf(osn)
	if owner == nil || owner.APIVersion != osnodev1.GroupVersion().String() || owner.Kind != "OpenStackNodePool" {
		return nil, nil // most nodes have no pool
	}
	pool := &osnodev1.OpenStackNodePool{}
	err := a.cfg.Reader.Get(ctx, types.NamespacedName{Namespace: osn.Namespace, Name: owner.Name}, pool)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil // it was deleted, and its nodes go too
	case err != nil:
		return nil, fmt.Errorf("read OpenStackNodePool %s/%s: %w", osn.Namespace, owner.Name, err)
	case pool.UID != owner.UID:
		return nil, nil // another one with the same name
	default:
		return pool, nil
	}
}
