// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// Reasons of refusals.
const (
	ReasonFormat    = "format"
	ReasonIssuer    = "issuer"
	ReasonKey       = "unknown-key"
	ReasonSignature = "signature"
	ReasonAudience  = "audience"
	ReasonLifetime  = "lifetime"
	ReasonType      = "token-type"
	ReasonProfile   = "profile"
	ReasonScope     = "scope"
	ReasonClaim     = "claim"
)

const (
	maxClockSkew = time.Minute
	mostGroups   = 1000
)

// claims are a token's, signed by the provider.
type claims map[string]any

func (c claims) text(name string) string {
	value, _ := c[name].(string)
	return value
}

// texts reads one text, or a list of them.
func (c claims) texts(name string) []string {
	switch value := c[name].(type) {
	case string:
		return []string{value}
	case []any:
		found := make([]string, 0, len(value))
		for _, element := range value {
			if text, ok := element.(string); ok {
				found = append(found, text)
			}
		}
		return found
	default:
		return nil
	}
}

// time reads seconds since 1970.
func (c claims) time(name string) time.Time {
	seconds, ok := c[name].(float64)
	if !ok || seconds <= 0 || seconds > 1e11 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// admit says why a token that the provider signed is not accepted.
func (i *Issuer) admit(h header, c claims, now time.Time) error {
	for _, check := range []func() error{
		func() error { return i.admitAudience(c) },
		func() error { return i.admitLifetime(c, now) },
		func() error { return i.admitType(h, c) },
		func() error { return i.admitProfile(h, c) },
		func() error { return i.admitScopes(c) },
		func() error { return i.admitClaims(c) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (i *Issuer) admitAudience(c claims) error {
	audiences := c.texts("aud")
	if !slices.ContainsFunc(audiences, func(one string) bool { return slices.Contains(i.Audiences, one) }) {
		return tenant.Refuse(ReasonAudience, "the token is for others")
	}
	// With several audiences it counts who asked for the token.
	if party := c.text("azp"); i.TokenType == IDToken && len(audiences) > 1 && party != "" && !slices.Contains(i.Audiences, party) {
		return tenant.Refuse(ReasonAudience, "the token was made for %q", party)
	}
	return nil
}

func (i *Issuer) admitLifetime(c claims, now time.Time) error {
	issued, expires := c.time("iat"), c.time("exp")
	switch {
	case issued.IsZero() || expires.IsZero():
		return tenant.Refuse(ReasonLifetime, "the token does not say from when until when it is good")
	case !now.Before(expires):
		return tenant.Refuse(ReasonLifetime, "the token has expired")
	case issued.After(now.Add(maxClockSkew)):
		return tenant.Refuse(ReasonLifetime, "the token is from the future; compare the clocks")
	case expires.Sub(issued) > i.MaxLifetime:
		return tenant.Refuse(ReasonLifetime, "the token is good for %s, which is longer than %s", expires.Sub(issued), i.MaxLifetime)
	case c["nbf"] != nil && now.Add(maxClockSkew).Before(c.time("nbf")):
		return tenant.Refuse(ReasonLifetime, "the token is not good yet")
	default:
		return nil
	}
}

// admitType tells ID tokens from all others that a provider signs with the same keys.
// There is no one mark: providers have each their own.
func (i *Issuer) admitType(h header, c claims) error {
	kind := strings.TrimPrefix(strings.ToLower(h.Type), "application/")
	if kind == "logout+jwt" || strings.EqualFold(c.text("typ"), "Refresh") || strings.EqualFold(c.text("typ"), "Offline") {
		return tenant.Refuse(ReasonType, "the token is not for logging in")
	}
	if i.TokenType != IDToken {
		return nil
	}
	_, scope := c["scope"]
	_, scp := c["scp"]
	if kind == "at+jwt" || scope || scp || c.text("token_use") == "access" || strings.EqualFold(c.text("typ"), "Bearer") {
		return tenant.Refuse(ReasonType, "the token is an access token; give the ID token")
	}
	return nil
}

func (i *Issuer) admitProfile(h header, c claims) error {
	if i.Profile != WLCG {
		return nil
	}
	major, _, _ := strings.Cut(c.text("wlcg.ver"), ".")
	switch {
	case h.KeyID == "":
		return tenant.Refuse(ReasonProfile, "the token does not name its key")
	case major != "1":
		return tenant.Refuse(ReasonProfile, "wlcg.ver %q is not known", c.text("wlcg.ver"))
	default:
		return nil
	}
}

func (i *Issuer) admitScopes(c claims) error {
	scopes := strings.Fields(c.text("scope"))
	for _, pattern := range i.Scopes {
		matches := func(scope string) bool {
			// A scope may end with the path that it is for.
			capability, _, _ := strings.Cut(scope, ":")
			whole, _ := path.Match(pattern, scope) // patterns were tried when the issuer was configured
			part, _ := path.Match(pattern, capability)
			return whole || part
		}
		if !slices.ContainsFunc(scopes, matches) {
			return tenant.Refuse(ReasonScope, "the token has no scope %s", pattern)
		}
	}
	return nil
}

func (i *Issuer) admitClaims(c claims) error {
	for claim, want := range i.RequiredClaims {
		if !slices.Contains(c.texts(claim), want) {
			return tenant.Refuse(ReasonClaim, "claim %s is not %q", claim, want)
		}
	}
	verified, _ := c["email_verified"].(bool)
	switch {
	case c.text("sub") == "":
		return tenant.Refuse(ReasonClaim, "the token has no subject")
	case c.text(i.UserNameClaim) == "":
		return tenant.Refuse(ReasonClaim, "claim %s has no name", i.UserNameClaim)
	case i.UserNameClaim == "email" && !verified:
		return tenant.Refuse(ReasonClaim, "the provider has not verified the e-mail address")
	case len(c.texts(i.GroupsClaim)) > mostGroups:
		return tenant.Refuse(ReasonClaim, "claim %s has more than %d groups", i.GroupsClaim, mostGroups)
	default:
		return nil
	}
}

// login is the token in the platform's terms.
func (i *Issuer) login(c claims) tenant.Login {
	subject, name := c.text("sub"), c.text(i.UserNameClaim)
	login := tenant.Login{
		Auth: tenant.AuthOIDC, Name: prefix(i.UserNamePrefix) + name, UID: i.URL + "#" + subject,
		Owner: tenant.EncodeSubject(i.URL, subject), DisplayName: name, Domain: i.URL,
		TokenID: c.text("jti"), Expires: c.time("exp"),
	}
	groups := c.texts(i.GroupsClaim)
	login.Memberships = i.memberships(groups)
	if i.GroupsPrefix != "" {
		for _, group := range groups {
			login.Groups = append(login.Groups, i.GroupsPrefix+group)
		}
	}
	return login
}

// memberships are those that a user's groups give, in the order of the configuration.
func (i *Issuer) memberships(groups []string) []tenant.Membership {
	var found []tenant.Membership
	for _, project := range i.Projects {
		if !slices.Contains(groups, project.Group) {
			continue
		}
		id := tenant.EncodeID(project.ID)
		at := slices.IndexFunc(found, func(member tenant.Membership) bool { return member.Project.ID == id })
		if at < 0 {
			found = append(found, tenant.Membership{Project: tenant.Project{ID: id, Name: project.Name}})
			at = len(found) - 1
		}
		for _, role := range project.Roles {
			if !slices.Contains(found[at].Roles, role) {
				found[at].Roles = append(found[at].Roles, role)
			}
		}
	}
	return found
}
