// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/test/property/site"
)

// oracleWait is how long the oracle may take to hear of what a user has seen.
const oracleWait = 2 * time.Second

// allowed says what is wrong with a user having seen an object as it is.
func (p *play) allowed(ctx context.Context, a actor, at place, one seen) error {
	owner := tenant.OwnerOf(one.Labels)
	value, made := one.Annotations[valueKey]
	switch {
	case systemObject(at.resource, one.Name):
		return nil
	case made && !fromController(one) && !a.wrote(value) && owner.Is(a.id):
		return fmt.Errorf("%s sees %s as their own, and in it %q", a.name, one.Name, value)
	case owner.Is(a.id):
		return nil
	}
	shareable := slices.ContainsFunc(kinds(), func(k kind) bool { return k.Resource == at.resource && k.shareable })
	if !shareable || !a.memberOf(at.namespace) {
		return fmt.Errorf("%s sees %s of %q with %q", a.name, one.Name, owner.UserID, value)
	}
	if owner.Shared() {
		return nil
	}
	err := site.Await(ctx, oracleWait, watchTick, "that it was shared", func() (bool, error) { return p.oracle.recentlyShown(one.UID), nil })
	if err != nil {
		return fmt.Errorf("%s sees %s of %q, which is not shared, with %q", a.name, one.Name, owner.UserID, value)
	}
	return nil
}

// judgeContent looks at what an answer shows, and at whose the object is that was changed.
func (p *play) judgeContent(ctx context.Context, s step, a answer) error {
	if s.op == opList {
		all, err := a.objects()
		if err != nil {
			return err
		}
		var errs []error
		for _, one := range all {
			errs = append(errs, p.allowed(ctx, s.actor, s.place, one))
		}
		return errors.Join(errs...)
	}
	if s.op == opDeleteCollection {
		return p.judgeRemoved(ctx, s, a)
	}
	one, err := a.object()
	if err != nil {
		return err
	}
	if s.op == opDelete && one.Kind == "Status" {
		if one.Details == nil {
			return fmt.Errorf("the answer does not tell what was deleted: %s", a)
		}
		return p.mine(ctx, s, one.Details.UID)
	}
	if s.op != opGet && !tenant.OwnerOf(one.Labels).Is(s.actor.id) {
		return fmt.Errorf("%s has changed what is of %q", s.actor.name, tenant.OwnerOf(one.Labels).UserID)
	}
	return p.allowed(ctx, s.actor, s.place, one)
}

// mine wants an object that is gone to have been the actor's.
func (p *play) mine(ctx context.Context, s step, uid types.UID) error {
	return site.Await(ctx, oracleWait, watchTick, "the oracle to hear of "+s.place.String(), func() (bool, error) {
		found, known := p.oracle.find(uid)
		if known && found.owner != s.actor.id {
			return false, fmt.Errorf("%s has deleted %s of %q", s.actor.name, found.place, found.owner)
		}
		return known, nil
	})
}

func (p *play) judgeRemoved(ctx context.Context, s step, a answer) error {
	removed, err := a.objects()
	if err != nil {
		return err
	}
	for _, one := range removed {
		if !tenant.OwnerOf(one.Labels).Is(s.actor.id) {
			return fmt.Errorf("%s has deleted %s of %q", s.actor.name, one.Name, tenant.OwnerOf(one.Labels).UserID)
		}
		if err := p.allowed(ctx, s.actor, s.place, one); err != nil {
			return err
		}
	}
	return nil
}

// judgeModel compares what an answer shows with what the model says that there is.
func (p *play) judgeModel(s step, a answer) error {
	switch s.op {
	case opList:
		all, err := a.objects()
		if err != nil {
			return err
		}
		if got, want := values(all), p.model.visible(s); !maps.Equal(got, want) {
			return fmt.Errorf("the list has %v, and there is %v", got, want)
		}
	case opGet:
		one, err := a.object()
		if err != nil {
			return err
		}
		want := p.model.things[s.place].value
		if got := one.Annotations[valueKey]; got != want {
			return fmt.Errorf("the value is %q, and should be %q", got, want)
		}
	case opCreate, opApply, opUpdate, opPatch, opShare, opUnshare, opForge, opDelete, opDeleteCollection, opWatch, opChild:
	}
	return nil
}

// values are those of what users made.
func values(all []seen) map[string]string {
	found := map[string]string{}
	for _, one := range all {
		if value, made := one.Annotations[valueKey]; made && !fromController(one) {
			found[one.Name] = value
		}
	}
	return found
}
