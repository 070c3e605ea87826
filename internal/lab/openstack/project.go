// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
)

const (
	// securityGroup is the one that users of the platform are told to make.
	securityGroup = "K8S"
	subnetBits    = 20
)

// Quota is what a project may use. A limit of 0 is none.
type Quota struct{ Cores, MemoryMiB, Instances int }

func (q Quota) body() object {
	limit := func(value int) int {
		if value == 0 {
			return -1
		}
		return value
	}
	return object{"cores": limit(q.Cores), "ram": limit(q.MemoryMiB), "instances": limit(q.Instances)}
}

// project plans a project's network: the first address is the gateway's, and servers get those from first to last.
func project(name string, subnet netip.Prefix, first, last uint32) Project {
	return Project{
		Name: name, Network: name + "-lan", Subnet: subnet,
		Gateway: after(subnet.Addr(), 1), First: after(subnet.Addr(), first), Last: after(subnet.Addr(), last),
	}
}

// after is an address of IPv4 so many after another.
func after(address netip.Addr, offset uint32) netip.Addr {
	bytes := address.As4()
	binary.BigEndian.PutUint32(bytes[:], binary.BigEndian.Uint32(bytes[:])+offset)
	return netip.AddrFrom4(bytes)
}

// AddProject makes a project with a network of its own, a quota, the security group K8S and the platform's user, and puts
// the users into it, who MUST exist. What is there already stays, but for the quota. Keystone alone has projects and nothing
// in them.
func (s *Site) AddProject(ctx context.Context, name string, quota Quota, users ...string) (Project, error) {
	admin, err := s.Admin(ctx)
	if err != nil {
		return Project{}, err
	}
	if err := s.makeProject(ctx, admin, Project{Name: name}); err != nil {
		return Project{}, fmt.Errorf("add project %s: %w", name, err)
	}
	if s.cfg.Driver != Identity {
		err := s.makeNetwork(ctx, admin, name)
		if err == nil {
			err = s.setQuota(ctx, admin, name, quota)
		}
		if err != nil {
			return Project{}, fmt.Errorf("add project %s: %w", name, err)
		}
	}
	for _, user := range users {
		if _, err := s.addUser(ctx, admin, user, []string{RoleMember}, name); err != nil {
			return Project{}, fmt.Errorf("add project %s: %w", name, err)
		}
	}
	return s.Project(name)
}

// SetQuota changes what a project may use.
func (s *Site) SetQuota(ctx context.Context, project string, quota Quota) error {
	admin, err := s.Admin(ctx)
	if err != nil {
		return err
	}
	return s.setQuota(ctx, admin, project, quota)
}

func (s *Site) setQuota(ctx context.Context, admin *Session, project string, quota Quota) error {
	at, err := s.Project(project)
	if err != nil {
		return err
	}
	if err := admin.Do(ctx, http.MethodPut, "compute", "/os-quota-sets/"+at.ID, object{"quota_set": quota.body()}, nil); err != nil {
		return fmt.Errorf("set quota of %s: %w", project, err)
	}
	return nil
}

// makeProject makes a project in Keystone and puts the platform's user into it. One that is planned without a subnet gets
// the next free one.
func (s *Site) makeProject(ctx context.Context, admin *Session, planned Project) error {
	id, err := admin.ensureProject(ctx, planned.Name)
	if err != nil {
		return err
	}
	full := false
	err = s.change(ctx, func(known *state) {
		if one, exists := known.Projects[planned.Name]; exists {
			planned = one
		} else if !planned.Subnet.IsValid() {
			subnet, free := freeSubnet(known.Projects)
			full = !free
			planned = project(planned.Name, subnet, 10, 1<<(32-subnetBits)-10)
		}
		if planned.ID = id; !full {
			known.Projects[planned.Name] = planned
		}
	})
	if full {
		err = errors.Join(err, errors.New("there is no address space left for another project's network"))
	}
	if err != nil {
		return err
	}
	_, err = s.addUser(ctx, admin, ServiceUser, []string{RoleMember, RoleOSNode}, planned.Name)
	return err
}

// freeSubnet is the first subnet of 10.88.0.0/13 after those of CMS and QST that no project has.
func freeSubnet(taken map[string]Project) (netip.Prefix, bool) {
	used := map[netip.Prefix]bool{}
	for _, one := range taken {
		used[one.Subnet] = true
	}
	space := netip.MustParsePrefix("10.88.0.0/13")
	subnet := netip.MustParsePrefix("10.88.48.0/20")
	for used[subnet] && space.Contains(subnet.Addr()) {
		subnet = netip.PrefixFrom(after(subnet.Addr(), 1<<(32-subnetBits)), subnetBits)
	}
	return subnet, space.Contains(subnet.Addr())
}

// makeNetwork makes a project's network and security group.
func (s *Site) makeNetwork(ctx context.Context, admin *Session, name string) error {
	at, err := s.Project(name)
	if err != nil {
		return err
	}
	query := "?project_id=" + at.ID + "&name="
	at.NetworkID, err = admin.ensure(ctx, "network", "/v2.0/networks", query+url.QueryEscape(at.Network), "networks", "network",
		object{"name": at.Network, "project_id": at.ID})
	if err != nil {
		return err
	}
	_, err = admin.ensure(ctx, "network", "/v2.0/subnets", query+url.QueryEscape(at.Network), "subnets", "subnet", object{
		"name": at.Network, "project_id": at.ID, "network_id": at.NetworkID, "ip_version": 4, "cidr": at.Subnet.String(),
		"gateway_ip": at.Gateway.String(), "enable_dhcp": false,
		"allocation_pools": []object{{"start": at.First.String(), "end": at.Last.String()}},
	})
	if err != nil {
		return err
	}
	if err := makeSecurityGroup(ctx, admin, at.ID); err != nil {
		return err
	}
	return s.change(ctx, func(known *state) { known.Projects[name] = at })
}

// makeSecurityGroup makes the group with what nodes of a cluster need of each other, of the control plane, and for ssh.
func makeSecurityGroup(ctx context.Context, admin *Session, project string) error {
	group, err := admin.ensure(ctx, "network", "/v2.0/security-groups", "?project_id="+project+"&name="+securityGroup, "security_groups", "security_group",
		object{"name": securityGroup, "project_id": project, "description": "nodes of the platform"})
	if err != nil {
		return err
	}
	for _, rule := range []object{
		{"protocol": "icmp"},
		{"protocol": "tcp", "port_range_min": 22, "port_range_max": 22},
		{"protocol": "tcp", "port_range_min": 10250, "port_range_max": 10250, "remote_ip_prefix": "10.88.0.0/24"},
		{"protocol": "tcp", "port_range_min": 30000, "port_range_max": 32767},
		{"protocol": "udp", "port_range_min": 30000, "port_range_max": 32767},
		{"protocol": "udp", "port_range_min": 8472, "port_range_max": 8472, "remote_group_id": group},
		{"remote_group_id": group},
	} {
		rule["security_group_id"], rule["project_id"], rule["direction"], rule["ethertype"] = group, project, "ingress", "IPv4"
		err := admin.Do(ctx, http.MethodPost, "network", "/v2.0/security-group-rules", object{"security_group_rule": rule}, nil)
		if err != nil && StatusOf(err) != http.StatusConflict { // it has the rule already
			return fmt.Errorf("add rule to security group: %w", err)
		}
	}
	return nil
}
