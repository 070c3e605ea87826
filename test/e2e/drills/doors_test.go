// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"context"
	"net/http"
	"strings"
	"sync"

	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

// calm is the tenant and the provider of nodes that no drill disturbs.
const calm = "calm"

// door is the way to OpenStack of one provider. All calls of the controller pass it.
type door struct {
	proxy  *openstacktest.Proxy
	faults *openstacktest.Faults
	tamper *tamper
}

// tamper is behind a door, and can change what the services say.
type tamper struct {
	next http.RoundTripper

	mu   sync.Mutex
	with func(next http.RoundTripper, r *http.Request) (*http.Response, error)
}

// RoundTrip implements http.RoundTripper.
func (t *tamper) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	with := t.with
	t.mu.Unlock()
	if with == nil {
		return t.next.RoundTrip(r)
	}
	return with(t.next, r)
}

func (t *tamper) set(with func(next http.RoundTripper, r *http.Request) (*http.Response, error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.with = with
}

// openDoors makes a door for each drill.
func (w *world) openDoors(ctx context.Context) error {
	w.doors = map[string]*door{}
	ids := []string{calm}
	for _, one := range drills() {
		ids = append(ids, one.id())
	}
	for i, id := range ids {
		made := &door{faults: openstacktest.NewFaults(uint64(i)), tamper: &tamper{next: w.transport}}
		proxy, err := openstacktest.StartProxy(ctx, openstacktest.ProxyConfig{
			Upstream: w.cloud.AuthURL(), Faults: made.faults, Transport: made.tamper,
		})
		if err != nil {
			return err
		}
		made.proxy = proxy
		w.doors[id] = made
		if err := w.later(func(context.Context) error { proxy.Close(); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// Each drill has its own project, and a service user who works nowhere else.
func projectName(id string) string   { return "drill-" + id }
func namespaceName(id string) string { return strings.ToLower(projectName(id)) }
func serviceUser(id string) string   { return "platform-" + id }
