// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"net/netip"
	"slices"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
)

// marker is the description of the groups that a cluster made. No other group's rules
// are ever touched.
func (p *provider) marker() string {
	return "Nodes of the Kubernetes cluster " + p.cluster + "; made by osnode-controller"
}

// The ports of a node that others come to.
const (
	kubeletPort   = 10250
	sshPort       = 22
	firstNodePort = 30000
	lastNodePort  = 32767
)

// securityGroups are the ids of the project's groups of these names.
func (h here) securityGroups(ctx context.Context, names []string) ([]string, error) {
	ids := make([]string, 0, len(names))
	for _, name := range names {
		id, err := h.reference(ctx, "security group", name, func(ctx context.Context) (string, error) {
			return h.securityGroup(ctx, name)
		})
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// securityGroup finds the group of a name or id, or makes it. It runs at most once at a
// time for a project and name: Neutron would make two groups of one name.
func (h here) securityGroup(ctx context.Context, name string) (string, error) {
	client, err := h.to(network(), h.account.Region)
	if err != nil {
		return "", err
	}
	found, err := h.findGroups(ctx, client, groups.ListOpts{Name: name, ProjectID: h.account.ProjectID})
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		if found, err = h.findGroups(ctx, client, groups.ListOpts{ID: name, ProjectID: h.account.ProjectID}); err != nil {
			return "", err
		}
	}
	switch {
	case len(found) == 1:
		return found[0].ID, h.completeGroup(ctx, client, found[0])
	case len(found) == 0 && h.SecurityGroups.Create && slices.Contains(h.SecurityGroups.Names, name):
		return h.createGroup(ctx, client, name)
	}
	ids := make([]string, 0, len(found))
	for _, group := range found {
		ids = append(ids, group.ID)
	}
	return only("security group", name, ids)
}

func (h here) findGroups(ctx context.Context, client *gophercloud.ServiceClient, options groups.ListOpts) ([]groups.SecGroup, error) {
	pages, err := groups.List(client, options).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := groups.ExtractGroups(pages)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(group groups.SecGroup) bool {
		return either(group.ProjectID, group.TenantID) != h.account.ProjectID
	}), nil
}

func (h here) createGroup(ctx context.Context, client *gophercloud.ServiceClient, name string) (string, error) {
	made, err := groups.Create(ctx, client, groups.CreateOpts{Name: name, Description: h.marker()}).Extract()
	if err != nil {
		return "", explain("create the security group \""+name+"\"", err)
	}
	return made.ID, h.completeGroup(ctx, client, *made)
}

// completeGroup adds the rules that a group of ours lacks: a crash may have come
// between the group and its rules, or the configuration has changed.
func (h here) completeGroup(ctx context.Context, client *gophercloud.ServiceClient, group groups.SecGroup) error {
	if group.Description != h.marker() || !h.SecurityGroups.Create {
		return nil
	}
	for _, rule := range h.SecurityGroups.rules(group.ID) {
		if slices.ContainsFunc(group.Rules, func(has rules.SecGroupRule) bool { return same(has, rule) }) {
			continue
		}
		_, err := rules.Create(ctx, client, rule).Extract()
		if err != nil && codeOf(err) != 409 { // somebody else added it
			return explain("create a rule of the security group \""+group.Name+"\"", err)
		}
	}
	return nil
}

// rules let nodes talk to each other, the control plane to the kubelets, and whom the
// configuration names to the rest.
func (g SecurityGroups) rules(id string) []rules.CreateOpts {
	wanted := []rules.CreateOpts{
		{Direction: rules.DirIngress, EtherType: rules.EtherType4, SecGroupID: id, RemoteGroupID: id},
		{Direction: rules.DirIngress, EtherType: rules.EtherType6, SecGroupID: id, RemoteGroupID: id},
	}
	open := func(cidrs []string, protocol rules.RuleProtocol, first, last int) {
		for _, cidr := range cidrs {
			prefix, err := netip.ParsePrefix(cidr)
			if err != nil {
				continue // Validate has refused it
			}
			family := rules.EtherType4
			if prefix.Addr().Is6() {
				family = rules.EtherType6
			}
			wanted = append(wanted, rules.CreateOpts{
				Direction: rules.DirIngress, EtherType: family, SecGroupID: id, Protocol: protocol,
				PortRangeMin: first, PortRangeMax: last, RemoteIPPrefix: prefix.Masked().String(),
			})
		}
	}
	open(g.ControlPlaneCIDRs, rules.ProtocolTCP, kubeletPort, kubeletPort)
	open(g.Overlay.CIDRs, rules.RuleProtocol(g.Overlay.Protocol), g.Overlay.Port, g.Overlay.Port)
	open(g.SSHCIDRs, rules.ProtocolTCP, sshPort, sshPort)
	open(g.NodePortCIDRs, rules.ProtocolTCP, firstNodePort, lastNodePort)
	open(g.NodePortCIDRs, rules.ProtocolUDP, firstNodePort, lastNodePort)
	return wanted
}

func same(has rules.SecGroupRule, wanted rules.CreateOpts) bool {
	return has.Direction == string(wanted.Direction) && has.EtherType == string(wanted.EtherType) &&
		has.Protocol == string(wanted.Protocol) && has.PortRangeMin == wanted.PortRangeMin &&
		has.PortRangeMax == wanted.PortRangeMax && has.RemoteGroupID == wanted.RemoteGroupID &&
		has.RemoteIPPrefix == wanted.RemoteIPPrefix
}
