// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"fmt"
	"net/url"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// webhookName is what users see in refusals.
const webhookName = "kube-mt-admission.osn.infn.it"

// WebhookConfigurations are the objects with which an API server asks this webhook, as
// YAML. server is where it listens, and ca the PEM certificates that its own is from.
func WebhookConfigurations(server string, ca []byte) ([]byte, error) {
	address, err := url.Parse(server)
	if err != nil || address.Scheme != "https" || address.Host == "" {
		return nil, fmt.Errorf("address %q: want https://host:port", server)
	}
	if len(ca) == 0 {
		return nil, errors.New("the CA of the webhook's certificate is required")
	}
	client := func(path string) admissionregistrationv1.WebhookClientConfig {
		return admissionregistrationv1.WebhookClientConfig{URL: new(address.JoinPath(path).String()), CABundle: ca}
	}
	meta := metav1.ObjectMeta{Name: "kube-mt-admission"}
	mutating := &admissionregistrationv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: meta,
	}
	validating := &admissionregistrationv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: meta,
	}
	for _, half := range halves() {
		mutating.Webhooks = append(mutating.Webhooks, admissionregistrationv1.MutatingWebhook{
			Name: half.name("mutate"), ClientConfig: client(MutatePath),
			Rules:         rules(half.groups, half.resource, admissionregistrationv1.Create, admissionregistrationv1.Update),
			FailurePolicy: &half.failure, MatchPolicy: new(admissionregistrationv1.Equivalent),
			NamespaceSelector: projects(), SideEffects: new(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds: new(int32(3)), AdmissionReviewVersions: []string{"v1"},
			ReinvocationPolicy: new(admissionregistrationv1.IfNeededReinvocationPolicy), MatchConditions: half.conditions,
		})
		validating.Webhooks = append(validating.Webhooks, admissionregistrationv1.ValidatingWebhook{
			Name: half.name("validate"), ClientConfig: client(ValidatePath),
			Rules: rules(half.groups, half.resource, admissionregistrationv1.Create, admissionregistrationv1.Update,
				admissionregistrationv1.Delete, admissionregistrationv1.Connect),
			FailurePolicy: &half.failure, MatchPolicy: new(admissionregistrationv1.Equivalent),
			NamespaceSelector: projects(), SideEffects: new(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds: new(int32(3)), AdmissionReviewVersions: []string{"v1"}, MatchConditions: half.conditions,
		})
	}
	return documents(mutating, validating)
}

// half is one entry: all objects must be asked about, but events need not be. One that
// was not has no owner, and no user sees it.
type half struct {
	suffix     string
	groups     []string
	resource   string
	failure    admissionregistrationv1.FailurePolicyType
	conditions []admissionregistrationv1.MatchCondition
}

func (h half) name(verb string) string { return verb + h.suffix + "." + webhookName }

func halves() []half {
	// An administrator must be able to repair a cluster whose webhook is down.
	repair := admissionregistrationv1.MatchCondition{
		Name: "not-an-administrator", Expression: "!('system:masters' in request.userInfo.groups)",
	}
	events := admissionregistrationv1.MatchCondition{
		Name: "not-an-event", Expression: "!(request.resource.resource == 'events' && request.resource.group in ['', 'events.k8s.io'])",
	}
	return []half{
		{
			groups: []string{"*"}, resource: "*/*", failure: admissionregistrationv1.Fail,
			conditions: []admissionregistrationv1.MatchCondition{repair, events},
		},
		{
			suffix: "-events", groups: []string{"", "events.k8s.io"}, resource: "events", failure: admissionregistrationv1.Ignore,
			conditions: []admissionregistrationv1.MatchCondition{repair},
		},
	}
}

func rules(groups []string, resource string, operations ...admissionregistrationv1.OperationType) []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: operations,
		Rule: admissionregistrationv1.Rule{
			APIGroups: groups, APIVersions: []string{"*"}, Resources: []string{resource},
			Scope: new(admissionregistrationv1.NamespacedScope),
		},
	}}
}

// projects selects the namespaces of projects. Users cannot change them.
func projects() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: tenant.LabelProjectID, Operator: metav1.LabelSelectorOpExists},
	}}
}

// documents is the YAML of both.
func documents(objects ...any) ([]byte, error) {
	var all []byte
	for i, object := range objects {
		content, err := yaml.Marshal(object)
		if err != nil {
			return nil, fmt.Errorf("webhook configuration: %w", err)
		}
		if i > 0 {
			all = append(all, "---\n"...)
		}
		all = append(all, content...)
	}
	return all, nil
}
