// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// Reasons of refusals.
const (
	ReasonUnknown   = "unknown-token"
	ReasonForbidden = "validation-forbidden"
	ReasonExpired   = "expired"
	ReasonClock     = "clock"
	ReasonScope     = "scope"
	ReasonMethod    = "method"
	ReasonTrust     = "trust"
	ReasonProject   = "project"
	ReasonRole      = "role"
	ReasonDomain    = "domain"
	ReasonSession   = "session"
	ReasonContent   = "content"
)

// maxClockSkew is how much later than ours Keystone's clock may be.
const maxClockSkew = time.Minute

type named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// token is what Keystone says of one. Scopes are only looked at for being there.
type token struct {
	User struct {
		named

		Domain named `json:"domain"`
	} `json:"user"`
	Project *struct {
		named

		Domain named `json:"domain"`
	} `json:"project"`
	Domain   *named         `json:"domain"`
	System   map[string]any `json:"system"`
	Trust    map[string]any `json:"OS-TRUST:trust"`
	OAuth1   map[string]any `json:"OS-OAUTH1"`
	IsDomain bool           `json:"is_domain"`
	Methods  []string       `json:"methods"`
	Roles    []named        `json:"roles"`
	Expires  instant        `json:"expires_at"`
	Issued   instant        `json:"issued_at"`
	AuditIDs []string       `json:"audit_ids"`
}

// instant is a time as Keystone writes it. It leaves out the zone, which is always UTC, where
// the end of an application credential is also that of a token.
type instant struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (i *instant) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil || text == "" {
		return err
	}
	var err error
	if i.Time, err = time.Parse(time.RFC3339Nano, text); err == nil {
		return nil
	}
	if i.Time, err = time.Parse("2006-01-02T15:04:05.999999", text); err != nil {
		return fmt.Errorf("time of a token: %w", err)
	}
	return nil
}

// id names the token where the token itself must not be.
func (t *token) id() string {
	if len(t.AuditIDs) == 0 {
		return ""
	}
	return t.AuditIDs[0]
}

// origin names the first login that the token was made from.
func (t *token) origin() string {
	if len(t.AuditIDs) == 0 {
		return ""
	}
	return t.AuditIDs[len(t.AuditIDs)-1]
}

// admit says why a token that Keystone knows is not accepted.
func (r *Rules) admit(t *token, now time.Time) error {
	for _, check := range []func(*token, time.Time) error{r.admitTime, r.admitScope, r.admitMethod, r.admitProject} {
		if err := check(t, now); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rules) admitTime(t *token, now time.Time) error {
	switch {
	case t.User.ID == "" || t.User.Name == "":
		return tenant.Refuse(ReasonContent, "the token has no user")
	case !now.Before(t.Expires.Time):
		return tenant.Refuse(ReasonExpired, "the token has expired")
	case t.Issued.After(now.Add(maxClockSkew)):
		return tenant.Refuse(ReasonClock, "the token is from the future; compare the clocks")
	default:
		return nil
	}
}

func (r *Rules) admitScope(t *token, _ time.Time) error {
	switch {
	case t.System != nil:
		return tenant.Refuse(ReasonScope, "the token is for the whole of OpenStack")
	case t.Domain != nil, t.IsDomain:
		return tenant.Refuse(ReasonScope, "the token is for a domain")
	case t.Project == nil || t.Project.ID == "":
		return tenant.Refuse(ReasonScope, "the token is for no project")
	case t.Trust != nil && !r.Trusts:
		return tenant.Refuse(ReasonTrust, "the token is somebody's by a trust")
	default:
		return nil
	}
}

// admitMethod refuses logins whose tokens may be for other projects than what was given away for one.
func (r *Rules) admitMethod(t *token, _ time.Time) error {
	if t.OAuth1 != nil || slices.ContainsFunc(t.Methods, func(method string) bool { return method == "ec2credential" || method == "oauth1" }) {
		return tenant.Refuse(ReasonMethod, "logins by %s are not accepted", strings.Join(t.Methods, ", "))
	}
	return nil
}

func (r *Rules) admitProject(t *token, _ time.Time) error {
	switch {
	case len(r.UserDomains) > 0 && !slices.Contains(r.UserDomains, t.User.Domain.ID) && !slices.Contains(r.UserDomains, t.User.Domain.Name):
		return tenant.Refuse(ReasonDomain, "users of the domain %q are not accepted", t.User.Domain.Name)
	case len(r.Projects) > 0 && !slices.Contains(r.Projects, t.Project.ID):
		return tenant.Refuse(ReasonProject, "the project %s is not enabled", t.Project.ID)
	case !slices.ContainsFunc(t.Roles, func(role named) bool { return slices.Contains(r.Roles, role.Name) }):
		return tenant.Refuse(ReasonRole, "the user has none of the roles %s in the project", strings.Join(r.Roles, ", "))
	default:
		return nil
	}
}

// login is the token in the platform's terms.
func (r *Rules) login(t *token) tenant.Login {
	name := r.UserNamePrefix + t.User.Name
	if t.User.Domain.ID != r.DefaultDomain {
		name += "@" + t.User.Domain.Name
	}
	var roles []string
	for _, role := range t.Roles {
		roles = append(roles, role.Name)
	}
	slices.Sort(roles)
	return tenant.Login{
		Auth: tenant.AuthKeystone, Name: name, UID: t.User.ID, Owner: tenant.EncodeID(t.User.ID),
		DisplayName: t.User.Name, Domain: t.User.Domain.Name,
		Memberships: []tenant.Membership{{
			Project: tenant.Project{ID: tenant.EncodeID(t.Project.ID), Name: t.Project.Name},
			Domain:  t.Project.Domain.Name, Roles: slices.Compact(roles),
		}},
		TokenID: t.id(), Expires: t.Expires.Time,
	}
}
