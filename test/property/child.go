// SPDX-License-Identifier: Apache-2.0

package property

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// child has a user do something with what a controller made of somebody's object. It may be gone before, or come again.
func (p *play) child(ctx context.Context, s step) error {
	s, target, found, err := p.player.chooseChild(ctx, s)
	if err != nil {
		return err
	}
	if !found {
		p.count(absent)
		return nil
	}
	a, err := p.player.play(ctx, s)
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	came, ok := a.outcome()
	p.remember(s, string(came)+" as child")
	p.count(came)
	owner := tenant.OwnerOf(target.Labels).UserID
	expected := []outcome{denied}
	switch {
	case owner == s.actor.id && s.actor.memberOf(s.place.namespace):
		expected = []outcome{done, absent, denied} // denied if it is gone: see below
	case s.actor.memberOf(s.place.namespace):
		expected = []outcome{denied, absent}
	}
	if !ok || !slices.Contains(expected, came) {
		return fmt.Errorf("%s, which is of %q: want %v: %s", s, owner, expected, a)
	}
	if came == denied && slices.Contains(expected, done) {
		now, err := p.player.ask(ctx, admin, call{method: http.MethodGet, path: s.path()})
		if err != nil {
			return err
		}
		if one, _ := now.object(); now.code == http.StatusOK && one.UID == target.UID {
			return fmt.Errorf("%s, which is their own: %s", s, a)
		}
		return nil
	}
	if came == done {
		return p.judgeContent(ctx, s, a)
	}
	return nil
}

// chooseChild finds which one a step is about.
func (p *player) chooseChild(ctx context.Context, s step) (step, seen, bool, error) {
	resource := schema.GroupVersionResource{Version: "v1", Resource: s.place.resource}
	if s.place.resource != pods {
		resource.Group = "apps"
	}
	s.kind = kind{GroupVersionResource: resource}
	a, err := p.ask(ctx, admin, call{method: http.MethodGet, path: s.collection()})
	if err != nil {
		return s, seen{}, false, err
	}
	all, err := a.objects()
	if err != nil {
		return s, seen{}, false, err
	}
	all = slices.DeleteFunc(all, func(one seen) bool { return !fromController(one) })
	if len(all) == 0 {
		return s, seen{}, false, nil
	}
	slices.SortFunc(all, func(a, b seen) int { return cmp.Compare(a.Name, b.Name) })
	target := all[s.child%len(all)]
	s.place.name, s.op = target.Name, s.verb
	return s, target, true, nil
}
