// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// unknownOwnerError is why a pool makes nothing.
type unknownOwnerError struct{ message string }

func (e *unknownOwnerError) Error() string { return e.message }

func (p *Pools) provider(pool *osnodev1.OpenStackNodePool) string {
	if pool.Spec.Template.Provider != "" {
		return pool.Spec.Template.Provider
	}
	return p.DefaultProvider
}

// account is whose project a pool's machines are in. The pool's labels count only if its
// namespace is of the same project.
func (p *Pools) account(ctx context.Context, pool *osnodev1.OpenStackNodePool) (cloud.Account, error) {
	settings, err := p.Cloud.Settings(p.provider(pool))
	if err != nil {
		return cloud.Account{}, err
	}
	account := cloud.Account{
		Provider: p.provider(pool), Region: pool.Spec.Template.Region,
		ProjectID: pool.Labels[osnodev1.LabelProjectID], ProjectName: pool.Labels[osnodev1.LabelProjectName],
		UserID: pool.Labels[osnodev1.LabelUserID],
	}
	if account.Region == "" {
		account.Region = settings.Region
	}
	var namespace corev1.Namespace
	if err := p.Client.Get(ctx, types.NamespacedName{Name: pool.Namespace}, &namespace); err != nil {
		return cloud.Account{}, fmt.Errorf("namespace of pool %q: %w", pool.Name, err)
	}
	switch bound := namespace.Labels[osnodev1.LabelProjectID]; {
	case account.UserID == "" || account.ProjectID == "":
		return cloud.Account{}, &unknownOwnerError{"The pool has no owner: it was made before the platform could tell whose it is; delete it and create it again"}
	case bound != account.ProjectID:
		return cloud.Account{}, &unknownOwnerError{fmt.Sprintf("The namespace %q does not belong to the pool's project", pool.Namespace)}
	default:
		return account, nil
	}
}

// flavor is what a flavor has, by an answer that may be some minutes old.
func (p *Pools) flavor(ctx context.Context, account cloud.Account, name string) (cloud.Flavor, error) {
	key := flavorKey{account: account.Project(), name: name}
	p.memory.mu.Lock()
	answer, known := p.memory.flavors[key]
	p.memory.mu.Unlock()
	age := p.Timers.FlavorAge
	if answer.err != nil {
		age = p.Timers.Rescan
	}
	if known && p.Clock().Sub(answer.at) < age {
		return answer.flavor, answer.err
	}
	flavor, err := p.Cloud.Flavor(ctx, account, name)
	p.memory.mu.Lock()
	defer p.memory.mu.Unlock()
	p.memory.flavors[key] = flavorAnswer{flavor: flavor, err: err, at: p.Clock()}
	return flavor, err
}

// usableFlavor is the first flavor of the pool that is not backed off; the first of all if
// there is none.
func usableFlavor(pool *osnodev1.OpenStackNodePool, backoff []osnodev1.FlavorBackoff, now metav1.Time) (flavor string, usable bool) {
	for _, flavor := range pool.Spec.Flavors {
		held := slices.ContainsFunc(backoff, func(b osnodev1.FlavorBackoff) bool { return b.Flavor == flavor && now.Before(&b.Until) })
		if !held {
			return flavor, true
		}
	}
	return pool.Spec.Flavors[0], false
}
