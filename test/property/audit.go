// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/test/property/site"
)

const (
	auditTime = 60 * time.Second
	auditTick = 250 * time.Millisecond
)

// audit compares all that is stored with the model, and wants controllers to have made what they make of it: they are
// users of the webhooks, too.
func (p *play) audit(ctx context.Context) error {
	for namespace := range namespaces() {
		for _, k := range kinds() {
			if err := p.auditKind(ctx, k, namespace); err != nil {
				return err
			}
		}
	}
	var missing error
	err := site.Await(ctx, auditTime, auditTick, "controllers", func() (bool, error) {
		var parent place
		if parent, missing = p.withoutChildren(); missing == nil {
			return true, nil
		}
		return false, p.nudge(ctx, parent)
	})
	return errors.Join(err, missing, p.oracle.problems())
}

// nudge has controllers look at an object at once: after errors of theirs, such as caches that are behind when objects come
// and go as here, they wait for minutes.
func (p *play) nudge(ctx context.Context, at place) error {
	c := step{kind: kindOf(at.resource), place: at}.patch(object{"annotations": object{"example.org/look": time.Now().Format(time.RFC3339)}})
	a, err := p.player.ask(ctx, admin, c)
	if err == nil && a.code != http.StatusOK {
		err = fmt.Errorf("nudge %s: %s", at, a)
	}
	return err
}

func (p *play) auditKind(ctx context.Context, k kind, namespace string) error {
	a, err := p.player.ask(ctx, admin, call{method: http.MethodGet, path: collectionPath(k.GroupVersionResource, namespace)})
	if err != nil {
		return err
	}
	all, err := a.objects()
	if err != nil {
		return err
	}
	want := map[string]string{}
	for at, one := range p.model.things {
		if at.namespace == namespace && at.resource == k.Resource {
			want[at.name] = one.value
		}
	}
	if got := values(all); !maps.Equal(got, want) {
		return fmt.Errorf("there is %v of %s in %s, and should be %v", got, k.Resource, namespace, want)
	}
	return nil
}

// withoutChildren names something that controllers have made nothing of.
func (p *play) withoutChildren() (parent place, err error) {
	for _, made := range []struct{ of, child string }{
		{deployments, "replicasets"}, {deployments, pods}, {"services", "endpointslices"},
	} {
		for at, one := range p.model.things {
			if at.resource != made.of {
				continue
			}
			found := p.oracle.has(func(other stored) bool {
				return other.gone.IsZero() && other.owner == one.owner.id && other.place.resource == made.child &&
					other.place.namespace == at.namespace && p.oracle.descends(other, at)
			})
			if !found {
				return at, fmt.Errorf("%s of %s has no %s of theirs", at, one.owner.name, made.child)
			}
		}
	}
	return place{}, nil
}

// has tells that there is such an object.
func (o *oracle) has(which func(stored) bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(slices.Collect(maps.Values(o.objects)), which)
}

// descends tells that controllers made an object of another, or of what they made of it. The caller holds mu.
func (o *oracle) descends(one stored, from place) bool {
	for one.parent != "" {
		parent, known := o.objects[one.parent]
		if !known {
			return false
		}
		if parent.place == from && parent.gone.IsZero() {
			return true
		}
		one = parent
	}
	return false
}

// clear removes what the history has left, and waits until its names are free, so that another can follow.
func (p *play) clear(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	last := time.Now()
	return site.Await(ctx, auditTime, auditTick, "objects and names to be free", func() (bool, error) {
		for namespace := range namespaces() {
			for _, k := range kinds() {
				gone, err := p.clearKind(ctx, k, namespace)
				if err != nil {
					return false, err
				}
				if !gone {
					last = time.Now()
				}
			}
		}
		return time.Since(last) > quarantine+slack, nil
	})
}

func (p *play) clearKind(ctx context.Context, k kind, namespace string) (gone bool, err error) {
	c := call{method: http.MethodGet, path: collectionPath(k.GroupVersionResource, namespace), query: map[string][]string{"labelSelector": {tenant.LabelUserID}}}
	a, err := p.player.ask(ctx, admin, c)
	if err != nil {
		return false, err
	}
	all, err := a.objects()
	if err != nil || len(all) == 0 {
		return err == nil, err
	}
	c.method = http.MethodDelete
	_, err = p.player.ask(ctx, admin, c)
	return false, err
}
