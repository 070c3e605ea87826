// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	uwsgi       = "/usr/bin/uwsgi-core"
	serviceUser = "service"
	adminUser   = "admin"
	// serviceProject is the project of OpenStack's own users, and of the platform's.
	serviceProject = "service"

	stopGrace = 5 * time.Second
)

// makeCatalog adds the other services and their user to a template's Keystone. That listens on a Unix socket for as long
// as it takes.
func (c Config) makeCatalog(ctx context.Context, l layout, admin string) (err error) {
	process, err := proc.Start(ctx, l.path("run"), proc.Spec{
		Name: "keystone", Path: uwsgi, Args: []string{"--ini", l.path("etc", "keystone.ini")}, Env: l.environment(), EndWithStarter: true,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, process.Stop(context.WithoutCancel(ctx), stopGrace)) }()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(l.Dir, "run", "keystone.sock"))
	}
	if err := awaitPort(ctx, process, dial, "keystone"); err != nil {
		return err
	}
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	session, err := login(ctx, &http.Client{Transport: transport}, l.KeystoneURL, authentication{user: adminUser, password: admin, project: adminUser})
	if err != nil {
		return err
	}
	project, err := session.ensureProject(ctx, serviceProject)
	if err != nil {
		return err
	}
	user, err := session.ensureUser(ctx, serviceUser, l.ServicePassword)
	if err != nil {
		return err
	}
	for _, name := range []string{"admin", "service"} {
		role, err := session.ensureRole(ctx, name)
		if err != nil {
			return err
		}
		if err := session.grant(ctx, project, user, role); err != nil {
			return err
		}
	}
	if c.Driver == Identity {
		return nil
	}
	return session.addServices(ctx, l.Region, templateHost)
}

// addServices puts every service but Keystone itself that the catalog has not into it.
func (s *Session) addServices(ctx context.Context, region, host string) error {
	for _, service := range []struct {
		name, kind string
		port       int
		path       string
	}{
		{"nova", "compute", novaPort, "/v2.1"},
		{"placement", "placement", placementPort, ""},
		{"glance", "image", glancePort, ""},
		{"neutron", "network", neutronPort, ""},
	} {
		if s.Endpoint(service.kind) != "" {
			continue
		}
		id, err := s.ensure(ctx, "identity", "/services", "", "services", "service", object{"name": service.name, "type": service.kind})
		if err != nil {
			return err
		}
		for _, face := range []string{"public", "internal", "admin"} {
			err := s.Do(ctx, http.MethodPost, "identity", "/endpoints", object{"endpoint": object{
				"service_id": id, "interface": face, "region_id": region,
				"url": fmt.Sprintf("http://%s:%d%s", host, service.port, service.path),
			}}, nil)
			if err != nil {
				return fmt.Errorf("add endpoint of %s: %w", service.name, err)
			}
		}
	}
	return nil
}
