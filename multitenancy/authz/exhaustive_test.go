// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

func allVerbs() []string {
	return []string{
		"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection",
		"impersonate", "impersonate:user-info", "bind", "escalate", "approve", "sign", "use", "proxy", "administer", "*", "", "GET",
	}
}

func allSubresources() []string {
	return []string{
		"", "status", "scale", "finalizers", "log", "exec", "attach", "portforward", "proxy", "eviction", "resize",
		"ephemeralcontainers", "binding", "token", "finalize", "approval", "evil", "*",
	}
}

func allResources() []authz.Resource {
	return []authz.Resource{
		resource("", "pods"), resource("", "secrets"), resource("", "services"), resource("apps", "deployments"),
		resource("", "serviceaccounts"), resource("osnode.infn.it", "openstacknodes"), resource("discovery.k8s.io", "endpointslices"),
		resource("", "bindings"), resource("evil.example.org", "widgets"), resource("*", "*"),
	}
}

// ownersRights is the table of what an owner may do, as resource/subresource: verbs. It is written out so that the rules
// are compared with something that is not derived from them. * stands for any kind that tenants have.
func ownersRights() map[string]string {
	return map[string]string{
		"*/":                       "get create update patch delete",
		"*/status":                 "get update patch",
		"*/scale":                  "get update patch",
		"*/finalizers":             "update patch",
		"pods/log":                 "get",
		"pods/exec":                "get create",
		"pods/attach":              "get create",
		"pods/portforward":         "get create",
		"pods/proxy":               "get create update patch delete",
		"services/proxy":           "get create update patch delete",
		"pods/eviction":            "create",
		"pods/resize":              "get update patch",
		"pods/ephemeralcontainers": "get update patch",
		"serviceaccounts/token":    "create",
	}
}

func tenantsHave(r authz.Resource) bool {
	return tenant.DefaultPolicy().Writable(r.Group, r.Resource)
}

// tenantsSee is for what controllers make for owners.
func tenantsSee(r authz.Resource) bool {
	class := tenant.DefaultPolicy().Class(r.Group, r.Resource)
	return class == tenant.Owned || class == tenant.Shareable
}

func TestDecideEveryVerbSubresourceAndOwner(t *testing.T) {
	t.Parallel()
	rules, facts, rights, count := newRules(t, authz.Options{}), someWorld(), ownersRights(), 0
	for _, r := range allResources() {
		for _, verb := range allVerbs() {
			for _, subresource := range allSubresources() {
				owner := slices.Contains(strings.Fields(rights[r.String()+"/"+subresource]), verb) ||
					slices.Contains(strings.Fields(rights["*/"+subresource]), verb)
				owner = owner && (tenantsHave(r) || tenantsSee(r) && verb == "get")
				for relation, want := range map[string]bool{
					"mine":    owner,
					"his":     owner && verb == "create" && subresource == "",
					"nobodys": owner && verb == "create" && subresource == "",
					"shared": owner && (verb == "create" && subresource == "" ||
						verb == "get" && slices.Contains([]string{"", "status", "scale"}, subresource) &&
							tenant.DefaultPolicy().Class(r.Group, r.Resource) == tenant.Shareable),
				} {
					count++
					verdict := rules.Decide(ask(verb, of(r.Group, r.Resource), sub(subresource), named(relation)), facts)
					require.NotEqual(t, authz.Ask, verdict.Outcome)
					assert.Equal(t, want, verdict.Outcome == authz.NoOpinion, "%s %s/%s of %s: %s", verb, r, subresource, relation, verdict.Text)
				}
			}
		}
	}
	t.Logf("%d combinations", count)
}

// thing is an object of the naive model, with the labels that admission gives it.
type thing struct {
	key    authz.Key
	labels labels.Set
}

func things(w world) []thing {
	var all []thing
	for k, object := range w.objects {
		set := labels.Set{"app": "web"}
		if object.Owner.UserID != "" {
			set[tenant.LabelUserID], set[tenant.LabelVisibleTo] = object.Owner.UserID, object.Owner.VisibleTo
		}
		all = append(all, thing{k, set})
	}
	return all
}

// selected tells whether an object meets the requirements. One that is no requirement at all selects everything.
func selected(requirements []metav1.LabelSelectorRequirement, set labels.Set) bool {
	for _, r := range requirements {
		selector, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{r}})
		if err == nil && !selector.Matches(set) {
			return false
		}
	}
	return true
}

// touched are the objects that the API server would show or change: those that a collection selects, or the one named.
func touched(request authz.Request, all []thing) []thing {
	isCollection := slices.Contains([]string{"list", "watch", "deletecollection"}, request.Verb)
	var hit []thing
	for _, one := range all {
		if one.key.Resource != request.Resource || request.Namespace != "" && one.key.Namespace != request.Namespace {
			continue
		}
		if isCollection && selected(request.Selector, one.labels) || !isCollection && one.key.Name == request.Name {
			hit = append(hit, one)
		}
	}
	return hit
}

// TestDecideTouchesNothingOfOthers compares the rules with a model that knows nothing of them: it carries each request out
// and looks whose objects it has reached.
func TestDecideTouchesNothingOfOthers(t *testing.T) {
	t.Parallel()
	rules, facts := newRules(t, authz.Options{}), someWorld()
	all := things(facts)
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	passed := 0
	for range 200_000 {
		r := allResources()[random.IntN(6)]
		request := ask(allVerbs()[random.IntN(8)], of(r.Group, r.Resource), within(pick([]string{space, space, space, elsewhere, "", "kube-system"})))
		request.Name = pick([]string{"", "mine", "his", "shared", "nobodys", "new"})
		if random.IntN(4) == 0 {
			request.Subresource = pick(allSubresources())
		}
		for range random.IntN(3) {
			var values []string
			for range random.IntN(3) {
				values = append(values, pick([]string{alice, bob, "project", "", "web"}))
			}
			request.Selector = append(request.Selector, metav1.LabelSelectorRequirement{
				Key:      pick([]string{tenant.LabelUserID, tenant.LabelVisibleTo, "app"}),
				Operator: metav1.LabelSelectorOperator(pick([]string{"In", "In", "NotIn", "Exists", "DoesNotExist"})), Values: values,
			})
		}
		if rules.Decide(request, facts).Outcome != authz.NoOpinion {
			continue
		}
		passed++
		if request.Verb == "create" && request.Subresource == "" {
			continue // admission sees what is created
		}
		reads := slices.Contains([]string{"get", "list", "watch"}, request.Verb)
		for _, one := range touched(request, all) {
			mine := one.labels[tenant.LabelUserID] == alice
			seen := reads && one.labels[tenant.LabelVisibleTo] == "project" && r != resource("", "secrets")
			require.True(t, mine || seen, "%+v reaches %+v", request, one)
			require.Equal(t, space, one.key.Namespace)
		}
	}
	assert.Greater(t, passed, 5_000, "the requests should be such that some pass")
}

func FuzzDecide(f *testing.F) {
	f.Add("get", "", "pods", "log", space, "his", tenant.LabelUserID, "In", alice)
	f.Add("list", "", "secrets", "", space, "", tenant.LabelVisibleTo, "In", "project")
	f.Add("get", "", "services", "proxy", space, "https:his:443", "", "", "")
	f.Add("get", "", "namespaces", "", elsewhere, elsewhere, "", "", "")
	rules, err := authz.NewRules(tenant.DefaultPolicy(), authz.Options{})
	require.NoError(f, err)
	facts := someWorld()
	all := things(facts)
	f.Fuzz(func(t *testing.T, verb, group, name, subresource, namespace, object, label, operator, value string) {
		request := ask(verb, of(group, name), sub(subresource), within(namespace), named(object), selecting(
			metav1.LabelSelectorRequirement{Key: label, Operator: metav1.LabelSelectorOperator(operator), Values: strings.Split(value, ",")}))
		verdict := rules.Decide(request, facts)
		require.Equal(t, verdict, rules.Decide(request, facts), "a pure function")
		if verdict.Outcome != authz.NoOpinion || verb == "create" || !tenantsSee(request.Resource) {
			return
		}
		for _, one := range touched(request, all) {
			if one.key.Namespace == "" {
				continue
			}
			visible := one.labels[tenant.LabelUserID] == alice || one.labels[tenant.LabelVisibleTo] == "project" || one.key.Name == "kube-root-ca.crt"
			require.True(t, visible, "%+v reaches %+v", request, one)
		}
	})
}
