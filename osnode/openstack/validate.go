// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"text/template"
)

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var wrong []error
	if c.Cluster == "" {
		wrong = append(wrong, errors.New("cluster: is required"))
	}
	if len(c.Providers) == 0 {
		wrong = append(wrong, errors.New("providers: at least one is required"))
	}
	seen := map[string]bool{}
	for i, provider := range c.Providers {
		path := fmt.Sprintf("providers[%d]", i)
		if seen[provider.ID] {
			wrong = append(wrong, fmt.Errorf("%s.id: %q is there twice", path, provider.ID))
		}
		seen[provider.ID] = true
		for _, err := range provider.problems(c.ApplicationCredential != nil) {
			wrong = append(wrong, fmt.Errorf("%s.%w", path, err))
		}
	}
	return errors.Join(wrong...)
}

func (p Provider) problems(credentials bool) []error {
	wrong := p.identityProblems()
	add := func(format string, values ...any) { wrong = append(wrong, fmt.Errorf(format, values...)) }
	if p.ID == "" {
		add("id: is required")
	}
	if !slices.Contains([]string{"", "public", "internal", "admin"}, p.Interface) {
		add("interface: %q is none of public, internal, admin", p.Interface)
	}
	if len(p.Regions) == 0 {
		add("regions: at least one is required")
	}
	if p.Defaults.Region != "" && !slices.Contains(p.Regions, p.Defaults.Region) {
		add("defaults.region: %q is not among the regions", p.Defaults.Region)
	}
	if p.Limits.QPS < 0 || p.Limits.Burst < 0 || p.Limits.InFlight < 0 {
		add("limits: must not be negative")
	}
	wrong = append(wrong, p.ownerProblems(credentials)...)
	for i, text := range p.Networks {
		if _, err := networkName(text, place{}); err != nil {
			add("networks[%d]: %w", i, err)
		}
	}
	return append(wrong, p.SecurityGroups.problems()...)
}

func (p Provider) identityProblems() []error {
	var wrong []error
	if address, err := url.Parse(p.AuthURL); err != nil || address.Host == "" || (address.Scheme != "http" && address.Scheme != "https") {
		wrong = append(wrong, fmt.Errorf("authURL: %q is no http or https address", p.AuthURL))
	}
	if p.Identity.UserID == "" && p.Identity.UserName == "" {
		wrong = append(wrong, errors.New("identity: userID or userName is required"))
	}
	if p.Identity.PasswordFile == "" {
		wrong = append(wrong, errors.New("identity.passwordFile: is required"))
	}
	return wrong
}

func (p Provider) ownerProblems(credentials bool) []error {
	var wrong []error
	for i, mode := range p.Owner.Modes {
		switch mode {
		case ModeTrust, ModeService:
		case ModeApplicationCredential:
			if !credentials && p.Owner.ApplicationCredentials == "" {
				wrong = append(wrong, errors.New("owner.applicationCredentials: is required for that mode"))
			}
		default:
			wrong = append(wrong, fmt.Errorf("owner.modes[%d]: %q is none of %s, %s, %s",
				i, mode, ModeTrust, ModeApplicationCredential, ModeService))
		}
	}
	return wrong
}

func (g SecurityGroups) problems() []error {
	var wrong []error
	for _, list := range []struct {
		key   string
		cidrs []string
	}{
		{"controlPlaneCIDRs", g.ControlPlaneCIDRs},
		{"sshCIDRs", g.SSHCIDRs},
		{"nodePortCIDRs", g.NodePortCIDRs},
		{"overlay.cidrs", g.Overlay.CIDRs},
	} {
		for i, text := range list.cidrs {
			if _, err := netip.ParsePrefix(text); err != nil {
				wrong = append(wrong, fmt.Errorf("securityGroups.%s[%d]: %q is no network", list.key, i, text))
			}
		}
	}
	if g.Overlay.Port < 0 || g.Overlay.Port > 65535 {
		wrong = append(wrong, fmt.Errorf("securityGroups.overlay.port: %d is no port", g.Overlay.Port))
	}
	if !slices.Contains([]string{"", "udp", "tcp"}, g.Overlay.Protocol) {
		wrong = append(wrong, fmt.Errorf("securityGroups.overlay.protocol: %q is neither udp nor tcp", g.Overlay.Protocol))
	}
	return wrong
}

// place is what a template of a network's name can use.
type place struct{ ProjectName, ProjectID, Region, Provider string }

func networkName(text string, at place) (string, error) {
	parsed, err := template.New("network").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("template %q: %w", text, err)
	}
	var name strings.Builder
	if err := parsed.Execute(&name, at); err != nil {
		return "", fmt.Errorf("template %q: %w", text, err)
	}
	return name.String(), nil
}
