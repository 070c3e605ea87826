// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/apiserver/pkg/authorization/cel"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// namesake has logged in under a name, and with groups, of somebody else.
func namesake(name string, groups ...string) tenant.User {
	user := userOf(alice, project)
	user.Name, user.Groups = name, append(user.Groups, groups...)
	return user
}

// asked evaluates the match conditions with the API server's own code.
func asked(t *testing.T, rules *authz.Rules, user tenant.User) bool {
	t.Helper()
	text, err := rules.AuthorizationConfiguration("/k")
	require.NoError(t, err)
	var configuration apiserverv1.AuthorizationConfiguration
	require.NoError(t, yaml.Unmarshal(text, &configuration))
	compiler := cel.NewDefaultCompiler()
	var matcher cel.CELMatcher
	for _, condition := range configuration.Authorizers[1].Webhook.MatchConditions {
		compiled, err := compiler.CompileCELExpression(&cel.SubjectAccessReviewMatchCondition{Expression: condition.Expression})
		require.NoError(t, err, condition.Expression)
		matcher.CompilationResults = append(matcher.CompilationResults, compiled)
	}
	answer, err := matcher.Eval(t.Context(), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Name, Groups: user.Groups, ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get"},
	}})
	require.NoError(t, err)
	return answer
}

func TestWhoIsAskedAbout(t *testing.T) {
	t.Parallel()
	policy := tenant.DefaultPolicy()
	policy.TrustedUsers = append(policy.TrustedUsers, "prometheus")
	policy.AdminGroups = []string{"caas-admins"}
	rules, err := authz.NewRules(policy, authz.Options{Trusted: authz.Trusted{Users: []string{"it's"}}})
	require.NoError(t, err)
	for name, test := range map[string]struct {
		user tenant.User
		want bool
	}{
		"tenant":                     {userOf(alice, project), true},
		"scheduler":                  {tenant.User{Name: "system:kube-scheduler"}, false},
		"operator":                   {accountOf("caas-system", "osnode-controller", "u"), false},
		"other operator":             {accountOf("caas-system", "other", "u"), true},
		"trusted by the policy":      {tenant.User{Name: "prometheus"}, false},
		"its namesake":               {namesake("prometheus"), true},
		"trusted":                    {tenant.User{Name: "it's"}, false},
		"trusted's namesake":         {namesake("it's"), true},
		"administrator":              {tenant.User{Name: "ada", Groups: []string{"caas-admins"}}, false},
		"provider's administrator":   {namesake("ada", "caas-admins"), true},
		"kubeadm's administrator":    {tenant.User{Name: "root", Groups: []string{"kubeadm:cluster-admins"}}, false},
		"operator's name, logged in": {namesake("system:serviceaccount:caas-system:osnode-controller"), false}, // kube-mt-authn lets nobody have it
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, asked(t, rules, test.user))
			verdict := rules.Decide(authz.Request{User: test.user, Verb: "list", Resource: resource("", "secrets"), Namespace: space}, someWorld())
			if test.want {
				assert.NotEqual(t, authz.NoOpinion, verdict.Outcome)
			}
		})
	}
}
