// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/watch"
)

// Again is the transport that sends a request a second time, for tests.
func Again(next http.RoundTripper) http.RoundTripper { return again{next} }

// Restricted are the settings of a sidecar that found out who it is.
func Restricted(settings plugin.Settings, identity tenant.Identity) plugin.Settings {
	restrict(&settings, identity)
	return settings
}

// Served is what counts for one client of a configuration file.
type Served struct {
	plugin.Settings

	Kubeconfig, Context, User string
	Origins                   watch.Origins
}

// ServedBy are the clients of a configuration file.
func ServedBy(content string) (map[string]Served, error) {
	f := &file{Listen: "127.0.0.1:0"}
	if err := yaml.UnmarshalStrict([]byte(content), f); err != nil {
		return nil, err
	}
	all, err := f.validate(false)
	clients := map[string]Served{}
	for _, one := range all {
		shown := Served{Settings: one.settings, Kubeconfig: one.access.Kubeconfig, Context: one.access.Context, Origins: one.origins}
		if one.access.Impersonate != nil {
			shown.User = one.access.Impersonate.User
		}
		clients[one.name] = shown
	}
	return clients, err
}

// Register registers the metrics that the program has with a configuration file, for each of its clients.
func Register(content string, registry *prometheus.Registry) error {
	f := &file{Listen: "127.0.0.1:0"}
	if err := yaml.UnmarshalStrict([]byte(content), f); err != nil {
		return err
	}
	all, err := f.validate(false)
	if err != nil {
		return err
	}
	sidecars := make([]*sidecar, 0, len(all))
	for _, one := range all {
		s, err := newSidecar(f, one, registry)
		if err != nil {
			return err
		}
		reached, err := s.reach()
		if err != nil {
			return err
		}
		if _, err := s.plug(reached, one.settings); err != nil {
			return err
		}
		sidecars = append(sidecars, s)
	}
	_, err = f.front(sidecars, registry)
	return err
}
