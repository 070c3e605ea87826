// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserver "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// AuthenticationConfiguration is the configuration by which the API server itself does
// what this package does, for sites that want no webhook for OpenID providers. It cannot
// see a token's header, so that it does not ask for the name of the key, as the WLCG
// profile does, and it tells kinds of tokens by their claims only.
func (c Config) AuthenticationConfiguration() ([]byte, error) {
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	configuration := apiserver.AuthenticationConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: apiserver.SchemeGroupVersion.String(), Kind: "AuthenticationConfiguration"},
	}
	for at := range c.Issuers {
		configuration.JWT = append(configuration.JWT, c.Issuers[at].authenticator())
	}
	return yaml.Marshal(configuration)
}

func (i *Issuer) authenticator() apiserver.JWTAuthenticator {
	return apiserver.JWTAuthenticator{
		Issuer: apiserver.Issuer{
			URL: i.URL, Audiences: i.Audiences, AudienceMatchPolicy: apiserver.AudienceMatchPolicyMatchAny,
			CertificateAuthority: i.CAData,
		},
		ClaimValidationRules: i.claimRules(),
		ClaimMappings: apiserver.ClaimMappings{
			Username: apiserver.PrefixedClaimOrExpression{Expression: quote(prefix(i.UserNamePrefix)) + " + " + claim(i.UserNameClaim)},
			UID:      apiserver.ClaimOrExpression{Expression: subject},
			Groups:   apiserver.PrefixedClaimOrExpression{Expression: i.groupsExpression()},
			Extra:    i.extraMappings(),
		},
		UserValidationRules: []apiserver.UserValidationRule{
			{Expression: "!user.username.startsWith('system:') && !user.username.startsWith('kubeadm:')", Message: "names of Kubernetes are reserved"},
			{
				Expression: "user.groups.all(group, !group.startsWith('system:') && !group.startsWith('kubeadm:'))",
				Message:    "groups of Kubernetes are reserved",
			},
		},
	}
}

// subject is the id of a user over all issuers.
const subject = `claims.iss + "#" + claims.sub`

func (i *Issuer) claimRules() []apiserver.ClaimValidationRule {
	rules := []apiserver.ClaimValidationRule{{
		Expression: fmt.Sprintf("claims.exp - claims.iat <= %d", int64(i.MaxLifetime.Seconds())),
		Message:    "the token is good for longer than " + i.MaxLifetime.String(),
	}}
	add := func(expression, message string) {
		rules = append(rules, apiserver.ClaimValidationRule{Expression: expression, Message: message})
	}
	if i.UserNameClaim == "email" {
		add(`claims[?"email_verified"].orValue(false) == true`, "the provider has not verified the e-mail address")
	}
	add("!("+lower("typ")+` in ["refresh", "offline"])`, "the token is not for logging in")
	if i.TokenType == IDToken {
		add(`!claims[?"scope"].hasValue() && !claims[?"scp"].hasValue() && `+lower("typ")+` != "bearer" && `+text("token_use")+` != "access"`,
			"the token is an access token; give the ID token")
		add(list("aud")+".size() <= 1 || "+text("azp")+" in "+texts(append([]string{""}, i.Audiences...)), "the token was made for others")
	}
	if i.Profile == WLCG {
		add(`string(claims[?"wlcg.ver"].orValue("")).startsWith("1.")`, "wlcg.ver is not known")
	}
	for _, pattern := range i.Scopes {
		add(`string(claims[?"scope"].orValue("")).split(" ").exists(one, one.matches(`+quote(scopeExpression(pattern))+`))`, "the token has no scope "+pattern)
	}
	for _, name := range slices.Sorted(maps.Keys(i.RequiredClaims)) {
		add(quote(i.RequiredClaims[name])+" in "+list(name), "claim "+name+" has not the required value")
	}
	return rules
}

// scopeExpression is a pattern as a regular expression, for scopes with and without a path at their end.
func scopeExpression(pattern string) string {
	escaped := strings.NewReplacer(".", `\.`, "*", "[^/]*", "?", "[^/]", "+", `\+`, "(", `\(`, ")", `\)`, "$", `\$`, "|", `\|`).Replace(pattern)
	return "^" + escaped + "(:.*)?$"
}

// groupsExpression is the list of groups that Verify gives.
func (i *Issuer) groupsExpression() string {
	terms := []string{"[" + quote(tenant.GroupAuthenticated) + "]"}
	for _, project := range i.everyProject() {
		terms = append(terms, i.ifMember(project.groups, tenant.ProjectGroup(project.id)))
		for _, role := range project.roles {
			terms = append(terms, i.ifMember(role.groups, tenant.RoleGroup(project.id, role.name)))
		}
	}
	if i.GroupsPrefix != "" {
		terms = append(terms, list(i.GroupsClaim)+".map(group, "+quote(i.GroupsPrefix)+" + string(group))")
	}
	return strings.Join(terms, " + ")
}

func (i *Issuer) extraMappings() []apiserver.ExtraMapping {
	mappings := []apiserver.ExtraMapping{
		{Key: tenant.ExtraUserID, ValueExpression: subject},
		{Key: tenant.ExtraUserName, ValueExpression: claim(i.UserNameClaim)},
		{Key: tenant.ExtraUserDomain, ValueExpression: "claims.iss"},
		{Key: tenant.ExtraAuth, ValueExpression: quote(tenant.AuthOIDC)},
	}
	projects := i.everyProject()
	if len(projects) == 0 {
		return mappings
	}
	// A project is named where there is only one.
	var ids, names []string
	for _, project := range projects {
		ids = append(ids, i.ifMember(project.groups, project.id))
		names = append(names, i.ifMember(project.groups, project.name))
	}
	only := func(terms []string) string {
		all := "(" + strings.Join(terms, " + ") + ")"
		return all + ".size() == 1 ? " + all + "[0] : ''"
	}
	return append(mappings,
		apiserver.ExtraMapping{Key: tenant.ExtraProjectID, ValueExpression: only(ids)},
		apiserver.ExtraMapping{Key: tenant.ExtraProjectName, ValueExpression: only(names)},
	)
}

// projectRule is a project with all groups that are members of it.
type projectRule struct {
	id, name string
	groups   []string
	roles    []roleRule
}

// roleRule is a role with the groups that have it, who may be fewer than the members.
type roleRule struct {
	name   string
	groups []string
}

func (i *Issuer) everyProject() []projectRule {
	var rules []projectRule
	for _, project := range i.Projects {
		id := tenant.EncodeID(project.ID)
		at := slices.IndexFunc(rules, func(rule projectRule) bool { return rule.id == id })
		if at < 0 {
			rules = append(rules, projectRule{id: id, name: project.Name})
			at = len(rules) - 1
		}
		rules[at].groups = append(rules[at].groups, project.Group)
		for _, role := range project.Roles {
			rules[at].grant(role, project.Group)
		}
	}
	return rules
}

func (p *projectRule) grant(role, group string) {
	at := slices.IndexFunc(p.roles, func(rule roleRule) bool { return rule.name == role })
	if at < 0 {
		p.roles = append(p.roles, roleRule{name: role})
		at = len(p.roles) - 1
	}
	p.roles[at].groups = append(p.roles[at].groups, group)
}

// ifMember is a list of the value for members of one of the groups, and else an empty one.
func (i *Issuer) ifMember(groups []string, value string) string {
	return fmt.Sprintf("(%s.exists(group, group in %s) ? [%s] : [])", list(i.GroupsClaim), texts(groups), quote(value))
}

// claim is the expression for a claim, whatever characters its name has.
func claim(name string) string { return "claims[" + quote(name) + "]" }

// text is the expression for a claim that is a text, or else an empty one.
func text(name string) string {
	optional := "claims[?" + quote(name) + `].orValue("")`
	return fmt.Sprintf(`(type(%[1]s) == string ? string(%[1]s) : "")`, optional)
}

func lower(name string) string { return text(name) + ".lowerAscii()" }

// texts is the expression for a list of these texts.
func texts(values []string) string {
	quoted := make([]string, len(values))
	for at, value := range values {
		quoted[at] = quote(value)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// list is the expression for a claim that is a list, or one text, or missing.
func list(name string) string {
	optional := "claims[?" + quote(name) + "].orValue([])"
	return fmt.Sprintf("(type(%[1]s) == string ? dyn([%[1]s]) : dyn(%[1]s))", optional)
}

func quote(text string) string { return strconv.Quote(text) }
