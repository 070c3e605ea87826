// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/lab/proc"
)

// The projects and users of every site.
const (
	CMS = "CMS"
	QST = "QST"

	// Zangrand is a member of CMS and QST, Lisa and Mallory of QST.
	Zangrand = "zangrand@infn.it"
	Lisa     = "lisa@infn.it"
	Mallory  = "mallory@infn.it"
	// InterLink is the robot that runs other clusters' pods, a member of CMS.
	InterLink = "interlink"
	// ServiceUser is the platform's own user, in the project "service" and in every other.
	ServiceUser = "osnode-controller"
)

// The roles that mean something here.
const (
	RoleMember = "member"
	// RoleOSNode is what the platform's user has where it works.
	RoleOSNode = "osnode"
)

// defaultQuota is what a project of CloudVeneto has.
func defaultQuota() Quota { return Quota{Cores: 20, MemoryMiB: 20 << 10, Instances: 10} }

// plan is a project that every site has. Its servers' addresses decide which addresses pods on them have; those are few.
type plan struct {
	name   string
	subnet netip.Prefix
}

func plans() []plan {
	return []plan{{CMS, netip.MustParsePrefix("10.88.16.0/20")}, {QST, netip.MustParsePrefix("10.88.32.0/20")}}
}

func (p plan) project() Project { return project(p.name, p.subnet, 10, 109) }

// Gateways are the addresses that the LAN's bridge needs so that servers in CMS and QST get anywhere.
func Gateways() []netip.Prefix {
	var all []netip.Prefix
	for _, one := range plans() {
		all = append(all, one.project().GatewayPrefix())
	}
	return all
}

// people are the users of every site, with the names of their key pairs.
func people() []person {
	return []person{
		{Zangrand, []string{CMS, QST}, []string{"my-key"}},
		{Lisa, []string{QST}, []string{"my-key", "Lisa"}},
		{Mallory, []string{QST}, []string{"my-key"}},
		{InterLink, []string{CMS}, nil},
	}
}

type person struct {
	name           string
	projects, keys []string
}

// furnish makes what every site has as soon as the service for it answers.
func (s *Site) furnish(ctx context.Context, running map[string]*proc.Process) error {
	if err := s.await(ctx, running, keystone); err != nil {
		return err
	}
	s.cfg.Progress("making users and projects")
	admin, err := s.Admin(ctx)
	if err != nil {
		return err
	}
	if err := makeRoles(ctx, admin); err != nil {
		return err
	}
	if err := s.makePeople(ctx, admin); err != nil {
		return err
	}
	if s.cfg.Driver == Identity {
		return nil
	}
	// A site that began with Keystone alone does not know of the others.
	if err := admin.addServices(ctx, s.cfg.Region, s.cfg.Address.String()); err != nil {
		return err
	}
	if admin, err = s.Admin(ctx); err != nil {
		return err
	}
	s.cfg.Progress("waiting for services")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.furnishGlance(ctx, running, admin) })
	group.Go(func() error { return s.furnishNeutron(ctx, running, admin) })
	group.Go(func() error { return s.furnishNova(ctx, running, admin) })
	return group.Wait()
}

func makeRoles(ctx context.Context, admin *Session) error {
	for _, role := range []string{RoleMember, "reader", "manager", RoleOSNode} {
		if _, err := admin.ensureRole(ctx, role); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) makePeople(ctx context.Context, admin *Session) error {
	for _, one := range plans() {
		if err := s.makeProject(ctx, admin, one.project()); err != nil {
			return err
		}
	}
	home, err := admin.ensureProject(ctx, serviceProject)
	if err != nil {
		return err
	}
	platform, err := s.User(ServiceUser)
	if err != nil {
		return err
	}
	member, err := admin.ensureRole(ctx, RoleMember)
	if err != nil {
		return err
	}
	if err := admin.grant(ctx, home, platform.ID, member); err != nil {
		return err
	}
	for _, one := range people() {
		if _, err := s.addUser(ctx, admin, one.name, []string{RoleMember}, one.projects...); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) furnishGlance(ctx context.Context, running map[string]*proc.Process, admin *Session) error {
	if err := s.await(ctx, running, glance); err != nil {
		return err
	}
	return s.makeImages(ctx, admin)
}

func (s *Site) furnishNeutron(ctx context.Context, running map[string]*proc.Process, admin *Session) error {
	if err := s.await(ctx, running, neutron); err != nil {
		return err
	}
	s.cfg.Progress("making networks")
	for _, one := range plans() {
		if err := s.makeNetwork(ctx, admin, one.name); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) furnishNova(ctx context.Context, running map[string]*proc.Process, admin *Session) error {
	if err := s.await(ctx, running, placement, nova); err != nil {
		return err
	}
	s.cfg.Progress("making flavors and key pairs")
	if err := makeFlavors(ctx, admin); err != nil {
		return err
	}
	for _, one := range plans() {
		if err := s.setQuota(ctx, admin, one.name, defaultQuota()); err != nil {
			return err
		}
	}
	return s.makeKeyPairs(ctx)
}

func (s *Site) makeKeyPairs(ctx context.Context) error {
	for _, one := range people() {
		for _, key := range one.keys {
			if err := s.AddKeyPair(ctx, one.name, one.projects[0], key); err != nil {
				return fmt.Errorf("key pair %s of %s: %w", key, one.name, err)
			}
		}
	}
	return nil
}
