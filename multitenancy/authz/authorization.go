// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// webhookTimeout is how long the API server waits for a decision. Nearly all take less than a millisecond; one that has to ask
// the API server takes as long as that does on a busy machine.
const webhookTimeout = 10 * time.Second

// AuthorizationConfiguration writes the file for kube-apiserver's --authorization-config: Node, this webhook, RBAC. The
// API server calls the webhook by the kubeconfig of the given path.
//
// Nothing is cached. A cached permission outlives the object that it is for: whoever owned a name would read what the next
// owner puts there.
func (r *Rules) AuthorizationConfiguration(kubeconfig string) ([]byte, error) {
	config := apiserverv1.AuthorizationConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: apiserverv1.SchemeGroupVersion.String(), Kind: "AuthorizationConfiguration"},
		Authorizers: []apiserverv1.AuthorizerConfiguration{
			{Type: "Node", Name: "node"},
			{Type: "Webhook", Name: "kube-mt-authz", Webhook: &apiserverv1.WebhookConfiguration{
				Timeout:                                  metav1.Duration{Duration: webhookTimeout},
				FailurePolicy:                            "Deny",
				SubjectAccessReviewVersion:               "v1",
				MatchConditionSubjectAccessReviewVersion: "v1",
				// Required, and without effect.
				AuthorizedTTL: metav1.Duration{Duration: time.Second}, UnauthorizedTTL: metav1.Duration{Duration: time.Second},
				CacheAuthorizedRequests: new(false), CacheUnauthorizedRequests: new(false),
				ConnectionInfo:  apiserverv1.WebhookConnectionInfo{Type: "KubeConfigFile", KubeConfigFile: &kubeconfig},
				MatchConditions: r.conditions(),
			}},
			{Type: "RBAC", Name: "rbac"},
		},
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("authorization configuration: %w", err)
	}
	return text, nil
}

// conditions tell the API server of whom the webhook is not asked at all, so that the control plane lives while the
// webhook does not. Names that begin with system: are safe to except because kube-mt-authn lets nobody have one.
func (r *Rules) conditions() []apiserverv1.WebhookMatchCondition {
	expressions := []string{
		"has(request.resourceAttributes)",
		"!request.user.startsWith('system:') || request.user.startsWith('system:serviceaccount:')",
		"!('system:nodes' in request.groups)",
		"!request.user.startsWith('system:serviceaccount:kube-system:')",
		"!('kubeadm:cluster-admins' in request.groups)",
	}
	for _, account := range r.options.Trusted.ServiceAccounts {
		namespace, name, _ := strings.Cut(account, "/")
		subject := serviceAccountPrefix + namespace + ":"
		if name == "*" {
			expressions = append(expressions, fmt.Sprintf("!request.user.startsWith(%s)", literal(subject)))
		} else {
			expressions = append(expressions, fmt.Sprintf("request.user != %s", literal(subject+name)))
		}
	}
	for _, user := range slices.Concat(r.policy.TrustedUsers, r.options.Trusted.Users) {
		expressions = append(expressions, exceptLogins(user, fmt.Sprintf("request.user != %s", literal(user))))
	}
	for _, group := range r.policy.AdminGroups {
		expressions = append(expressions, exceptLogins(group, fmt.Sprintf("!(%s in request.groups)", literal(group))))
	}
	conditions := make([]apiserverv1.WebhookMatchCondition, 0, len(expressions))
	for _, expression := range expressions {
		conditions = append(conditions, apiserverv1.WebhookMatchCondition{Expression: expression})
	}
	return conditions
}

// exceptLogins has the webhook asked about all who have logged in: they may be called as somebody whom the site trusts. Names
// that begin with system: they cannot have.
func exceptLogins(name, expression string) string {
	if strings.HasPrefix(name, "system:") {
		return expression
	}
	return expression + fmt.Sprintf(" || %s in request.groups", literal(tenant.GroupAuthenticated))
}

// literal is a string in CEL. Its escapes are those of Go for what is plain text.
func literal(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\r", `\r`).Replace(text) + "'"
}
