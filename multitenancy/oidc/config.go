// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// TokenType says which of a provider's tokens are accepted.
type TokenType string

// Types of tokens.
const (
	// IDToken is made for its reader to know who logged in.
	IDToken TokenType = "id"
	// WLCGAccess is an access token of the WLCG profile, with scopes that say what it is for.
	WLCGAccess TokenType = "wlcg-access"
)

// Profile says what a provider keeps to beyond OpenID Connect.
type Profile string

// Profiles.
const (
	// Plain is OpenID Connect alone.
	Plain Profile = ""
	// WLCG is the profile of the Worldwide LHC Computing Grid, in its first version.
	WLCG Profile = "wlcg"
)

// anyAudience of the WLCG profile is for whoever reads it, and so for nobody here.
const anyAudience = "https://wlcg.cern.ch/jwt/v1/any"

// noPrefix as a prefix is none.
const noPrefix = "-"

// Config says which providers are believed.
type Config struct {
	Issuers []Issuer
	// Metrics, when not nil, registers what is counted.
	Metrics prometheus.Registerer
	// Now is the time; time.Now when nil.
	Now func() time.Time
}

// Issuer is an OpenID provider and what its tokens mean.
type Issuer struct {
	// URL is the issuer, exactly as in its tokens.
	URL string
	// InsecureHTTP allows providers without TLS, whose keys anybody on the way can change.
	InsecureHTTP bool
	// Transport reaches the provider. Required.
	Transport http.RoundTripper
	// CAData is the certificate authority that Transport trusts, for AuthenticationConfiguration.
	CAData string
	// Audiences are those of which a token must have one.
	Audiences []string
	// Algorithms are those that tokens may be signed with; RS256 and ES256 when there are none.
	Algorithms []string

	Profile   Profile
	TokenType TokenType
	// Scopes are patterns such as compute.*; a WLCGAccess token must have a scope for each.
	Scopes []string
	// MaxLifetime is that of a token, from its issue to its end; 24 h when zero.
	MaxLifetime time.Duration
	// RequiredClaims are the texts that a token must have.
	RequiredClaims map[string]string

	// UserNameClaim has the user's name; sub when empty.
	UserNameClaim string
	// UserNamePrefix begins names in Kubernetes, so that they are nobody else's: the issuer
	// and # when empty, nothing when "-".
	UserNamePrefix string
	// GroupsClaim has the user's groups; groups when empty, or what the profile has.
	GroupsClaim string
	// GroupsPrefix begins groups in Kubernetes. Without it they are not passed on.
	GroupsPrefix string
	// Projects say which groups are members of which OpenStack projects.
	Projects []Project

	// Refresh is how often keys are fetched; 6 h when zero.
	Refresh time.Duration
	// MinRefresh is how soon tokens with unknown keys can have them fetched again; 60 s when zero.
	MinRefresh time.Duration
}

// Project makes the members of a group members of a project.
type Project struct {
	Group string
	// ID is the OpenStack project's.
	ID, Name string
	// Roles are those that the members have in it; member when there are none.
	Roles []string
}

func (c *Config) complete() error {
	var problems []error
	if c.Now == nil {
		c.Now = time.Now
	}
	if len(c.Issuers) == 0 {
		problems = append(problems, errors.New("no issuers"))
	}
	c.Issuers = slices.Clone(c.Issuers)
	seen := map[string]bool{}
	for at := range c.Issuers {
		issuer := &c.Issuers[at]
		if seen[issuer.URL] {
			problems = append(problems, fmt.Errorf("issuer %q is named twice", issuer.URL))
		}
		seen[issuer.URL] = true
		issuer.complete()
		for _, problem := range issuer.problems() {
			problems = append(problems, fmt.Errorf("issuer %q: %w", issuer.URL, problem))
		}
	}
	return errors.Join(problems...)
}

func (i *Issuer) complete() {
	if len(i.Algorithms) == 0 {
		i.Algorithms = []string{oidc.RS256, oidc.ES256}
	}
	setDefault(&i.TokenType, IDToken)
	setDefault(&i.MaxLifetime, 24*time.Hour)
	setDefault(&i.UserNameClaim, "sub")
	setDefault(&i.UserNamePrefix, i.URL+"#")
	if i.Profile == WLCG {
		setDefault(&i.GroupsClaim, "wlcg.groups")
	}
	setDefault(&i.GroupsClaim, "groups")
	setDefault(&i.Refresh, 6*time.Hour)
	setDefault(&i.MinRefresh, time.Minute)
	i.Projects = slices.Clone(i.Projects)
	for at := range i.Projects {
		if len(i.Projects[at].Roles) == 0 {
			i.Projects[at].Roles = []string{"member"}
		}
	}
}

func (i *Issuer) problems() []error {
	var problems []error
	check := func(good bool, format string, args ...any) {
		if !good {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	address, err := url.Parse(i.URL)
	check(err == nil && address.Host != "" && address.RawQuery == "" && address.Fragment == "" && address.User == nil, "it is no issuer's URL")
	check(err != nil || address.Scheme == "https" || address.Scheme == "http" && i.InsecureHTTP, "it has no TLS, so that its keys could be exchanged on the way")
	check(i.Transport != nil, "a transport is required")
	check(len(i.Audiences) > 0 && !slices.Contains(i.Audiences, ""), "audiences are required")
	check(!slices.Contains(i.Audiences, anyAudience), "the audience %s is everybody's", anyAudience)
	for _, algorithm := range i.Algorithms {
		check(slices.Contains(algorithms(), algorithm), "algorithm %q is none of %s", algorithm, strings.Join(algorithms(), ", "))
	}
	check(i.MaxLifetime > 0 && i.Refresh > 0 && i.MinRefresh > 0, "times must be positive")
	check(!reservedPrefix(i.UserNamePrefix) && !reservedPrefix(i.GroupsPrefix), "prefixes must not begin with system: or osn:")
	check(i.GroupsPrefix != noPrefix, "groups must have a prefix, or a provider could make its users administrators")
	return slices.Concat(problems, i.typeProblems(), i.projectProblems())
}

// typeProblems are those of which tokens are accepted.
func (i *Issuer) typeProblems() []error {
	var problems []error
	check := func(good bool, format string, args ...any) {
		if !good {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	check(i.Profile == Plain || i.Profile == WLCG, "profile %q is not wlcg", i.Profile)
	check(i.TokenType == IDToken || i.TokenType == WLCGAccess, "tokenType %q is neither id nor wlcg-access", i.TokenType)
	check(i.TokenType != WLCGAccess || i.Profile == WLCG && len(i.Scopes) > 0, "access tokens need the profile wlcg and scopes that say what they are for")
	check(i.TokenType == WLCGAccess || len(i.Scopes) == 0, "only access tokens have scopes")
	for _, pattern := range i.Scopes {
		_, err := path.Match(pattern, "")
		check(err == nil && pattern != "" && strings.Trim(pattern, "*?") != "", "scope %q is no pattern that says anything", pattern)
	}
	return problems
}

func (i *Issuer) projectProblems() []error {
	var problems []error
	for at, project := range i.Projects {
		if project.Group == "" || project.ID == "" || tenant.EncodeID(project.ID) == "" {
			problems = append(problems, fmt.Errorf("projects[%d]: group and id are required", at))
		}
	}
	return problems
}

// algorithms are those with a key that the provider keeps to itself.
func algorithms() []string {
	return []string{
		oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
		oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
	}
}

func reservedPrefix(prefix string) bool {
	lower := strings.ToLower(prefix)
	return strings.HasPrefix(lower, "system:") || strings.HasPrefix(lower, "osn:") || strings.HasPrefix(lower, "kubeadm:")
}

// prefix is the text of a prefix's setting.
func prefix(setting string) string {
	if setting == noPrefix {
		return ""
	}
	return setting
}

func setDefault[T comparable](value *T, unset T) {
	var zero T
	if *value == zero {
		*value = unset
	}
}
