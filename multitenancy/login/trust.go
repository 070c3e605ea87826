// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

const day = 24 * time.Hour

// entrust lets the platform create machines for the user. A login is good without it, so
// whatever goes wrong is told and no more.
func (s *session) entrust(ctx context.Context) {
	if s.site.Trustee.ID == "" || s.options.noTrust {
		return
	}
	var lacking []place
	for _, at := range s.places {
		enough, err := s.trusted(ctx, at)
		if err != nil {
			s.note("note: cannot tell whether the platform may create machines for you in %s: %v", at.token.Project.Name, err)
		} else if !enough {
			lacking = append(lacking, at)
		}
	}
	if len(lacking) == 0 {
		return
	}
	switch agreed, err := s.consent(ctx, lacking); {
	case errors.Is(err, errNobody):
		s.note("note: OSNodes cannot be created yet: the platform needs your agreement; run kubectl openstack on a terminal, or with -yes")
		return
	case err != nil:
		s.note("note: OSNodes cannot be created yet: %v", err)
		return
	case !agreed:
		s.note("note: OSNodes cannot be created without it; run kubectl openstack again when you need them")
		return
	}
	for _, at := range lacking {
		if err := s.trust(ctx, at); err != nil {
			s.note("note: OSNodes cannot be created in %s yet: %v", at.token.Project.Name, err)
		}
	}
}

// trusted tells that there is a trust which lasts. Those that are there twice go.
func (s *session) trusted(ctx context.Context, at place) (bool, error) {
	known, err := s.client.Trusts(ctx, at.token, s.site.Trustee.ID)
	if err != nil || len(known) == 0 {
		return false, err
	}
	best := known[0]
	left := best.Expires.Sub(s.Now())
	if !best.Impersonation || !best.Expires.IsZero() && left < time.Duration(s.site.Trust.Days)*day/3 {
		return false, nil
	}
	full, err := s.client.Trust(ctx, at.token, best.ID)
	if err != nil {
		return false, err
	}
	for _, role := range s.site.Trust.Roles {
		if !slices.ContainsFunc(full.Roles, func(has string) bool { return strings.EqualFold(has, role) }) {
			return false, nil
		}
	}
	s.retire(ctx, at, known[1:])
	return true, nil
}

// consent shows what is given, to whom and until when.
func (s *session) consent(ctx context.Context, places []place) (bool, error) {
	if s.options.yes {
		return true, nil
	}
	if !s.Terminal.Interactive() {
		return false, errNobody
	}
	var projects []string
	for _, at := range places {
		projects = append(projects, at.token.Project.Name)
	}
	who := "the user with the id " + s.site.Trustee.ID
	if s.site.Trustee.Name != "" {
		who = s.site.Trustee.Name + " (user id " + s.site.Trustee.ID + ")"
	}
	s.note("The platform creates the machines of your OSNodes in your name. For that it needs a trust from you in Keystone:")
	s.note("  what    to act as you, with the role %s, in %s", strings.Join(s.site.Trust.Roles, ", "), strings.Join(projects, ", "))
	s.note("  whom    %s", who)
	s.note("  until   %s; a login renews it, kubectl openstack logout takes it back", s.trustEnd().Local().Format("2 January 2006"))
	return s.agreed(ctx, "Do you agree?")
}

func (s *session) trustEnd() time.Time {
	return s.Now().Add(time.Duration(s.site.Trust.Days) * day)
}

// trust makes the trust, and takes back what it supersedes.
func (s *session) trust(ctx context.Context, at place) error {
	roles, err := least(at.token, s.site.Trust.Roles)
	if err != nil {
		return err
	}
	before, err := s.client.Trusts(ctx, at.token, s.site.Trustee.ID)
	if err != nil {
		return err
	}
	if _, err := s.client.CreateTrust(ctx, at.token, s.site.Trustee.ID, roles, s.trustEnd()); err != nil {
		return err
	}
	s.retire(ctx, at, before)
	return nil
}

// retire takes trusts back that are not needed any more.
func (s *session) retire(ctx context.Context, at place, trusts []identity.Trust) {
	for _, one := range trusts {
		if err := s.client.DeleteTrust(ctx, at.token, one.ID); err != nil {
			s.note("note: an older trust could not be taken back; it ends on %s", one.Expires.Local().Format("2 January 2006"))
		}
	}
}

// least are those of the wanted roles, as Keystone writes them. All of them MUST be the token's.
func least(token identity.Token, wanted []string) ([]string, error) {
	var roles []string
	for _, role := range wanted {
		at := slices.IndexFunc(token.Roles, func(has string) bool { return strings.EqualFold(has, role) })
		if at < 0 {
			return nil, fail(CodeProject, "you do not have the role %s in the project %s; ask its administrator", role, token.Project.Name)
		}
		roles = append(roles, token.Roles[at])
	}
	return roles, nil
}
