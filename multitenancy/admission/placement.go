// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// Values of the annotation tenant.AnnotationPolicy.
const (
	modePrivate = tenant.PolicyPrivate
	modeShared  = tenant.PolicyShared
)

// reservedTaint tells that a taint says who may use a node at all.
func reservedTaint(key string) bool {
	return strings.HasPrefix(key, tenant.Prefix) || strings.HasPrefix(key, "node-role.kubernetes.io/")
}

// modeOf is the choice of nodes that a pod's annotations make.
func modeOf(annotations map[string]string, field string) (string, error) {
	switch mode, set := annotations[tenant.AnnotationPolicy]; {
	case !set:
		return modePrivate, nil
	case mode == modePrivate, mode == modeShared:
		return mode, nil
	default:
		return "", fmt.Errorf("%s[%s]: %q is neither %s nor %s", field, tenant.AnnotationPolicy, mode, modePrivate, modeShared)
	}
}

// pools are the values of the pool label of nodes on which the owner's pod may run.
func pools(mode, owner, project string) []string {
	allowed := []string{tenant.PrivatePool(owner)}
	if mode == modeShared && project != "" {
		allowed = append(allowed, tenant.SharedPool(project))
	}
	return allowed
}

// place restricts a pod spec to nodes of the pools and tolerates their taints. What the
// user demands of nodes stays, and holds as well. Doing it twice changes nothing.
func place(spec fields, allowed []string) {
	required := ensure(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
	terms := list(required, "nodeSelectorTerms")
	had := len(terms) > 0
	// An empty term selects nothing. With our expression in it, it would select.
	terms = slices.DeleteFunc(terms, emptyTerm)
	switch {
	case len(terms) > 0:
	case had:
		terms = []fields{{"matchExpressions": []any{poolExpression("DoesNotExist", nil)}}}
	default:
		terms = []fields{{}}
	}
	wanted := poolExpression("In", allowed)
	kept := make([]any, len(terms))
	for i, term := range terms {
		if !slices.ContainsFunc(list(term, "matchExpressions"), func(e fields) bool { return isPoolExpression(e, allowed) }) {
			expressions, _ := term["matchExpressions"].([]any)
			term["matchExpressions"] = append(slices.Clone(expressions), wanted)
		}
		kept[i] = term
	}
	required["nodeSelectorTerms"] = kept
	tolerate(spec, allowed)
}

func emptyTerm(term fields) bool {
	return len(list(term, "matchExpressions")) == 0 && len(list(term, "matchFields")) == 0
}

func poolExpression(operator string, values []string) fields {
	expression := fields{"key": tenant.NodePoolLabel, "operator": operator}
	if len(values) > 0 {
		expression["values"] = anys(values)
	}
	return expression
}

func anys(values []string) []any {
	all := make([]any, len(values))
	for i, value := range values {
		all[i] = value
	}
	return all
}

func isPoolExpression(expression fields, allowed []string) bool {
	values, _ := expression["values"].([]any)
	return expression["key"] == tenant.NodePoolLabel && expression["operator"] == "In" && slices.Equal(values, anys(allowed))
}

func tolerate(spec fields, allowed []string) {
	tolerations, _ := spec["tolerations"].([]any)
	has := func(pool, effect string) bool {
		return slices.ContainsFunc(list(spec, "tolerations"), func(t fields) bool {
			operator := text(t, "operator")
			return text(t, "key") == tenant.PoolTaint && (operator == "" || operator == "Equal") && text(t, "value") == pool &&
				(text(t, "effect") == effect && t["tolerationSeconds"] == nil)
		})
	}
	for _, pool := range allowed {
		for _, effect := range []string{"NoSchedule", "NoExecute"} {
			if !has(pool, effect) {
				tolerations = append(tolerations, fields{"key": tenant.PoolTaint, "operator": "Equal", "value": pool, "effect": effect})
			}
		}
	}
	spec["tolerations"] = tolerations
}

// misplaced says why the pod of this spec could run where it must not.
func misplaced(spec *corev1.PodSpec, allowed []string, path string) []string {
	var problems []string
	at := path + ".affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
	terms := requiredTerms(spec)
	if len(terms) == 0 {
		problems = append(problems, fmt.Sprintf("%s: the pod is not restricted to nodes of %s", at, strings.Join(allowed, " or ")))
	}
	for i, term := range terms {
		if !slices.ContainsFunc(term.MatchExpressions, func(e corev1.NodeSelectorRequirement) bool { return within(e, allowed) }) {
			problems = append(problems, fmt.Sprintf("%s[%d]: does not restrict the pod to nodes of %s", at, i, strings.Join(allowed, " or ")))
		}
	}
	return append(problems, tolerations(spec, allowed, path)...)
}

func requiredTerms(spec *corev1.PodSpec) []corev1.NodeSelectorTerm {
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil || spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}

func within(e corev1.NodeSelectorRequirement, allowed []string) bool {
	return e.Key == tenant.NodePoolLabel && e.Operator == corev1.NodeSelectorOpIn && len(e.Values) > 0 &&
		!slices.ContainsFunc(e.Values, func(value string) bool { return !slices.Contains(allowed, value) })
}

// tolerations finds those by which a pod would stand nodes that are kept free of it.
func tolerations(spec *corev1.PodSpec, allowed []string, path string) []string {
	var problems []string
	for i, t := range spec.Tolerations {
		at := fmt.Sprintf("%s.tolerations[%d]", path, i)
		switch {
		case t.Key == "":
			problems = append(problems, at+": tolerating every taint is not allowed; give a key")
		case !reservedTaint(t.Key):
		case t.Key == tenant.PoolTaint && (t.Operator == "" || t.Operator == corev1.TolerationOpEqual) && slices.Contains(allowed, t.Value):
		default:
			problems = append(problems, fmt.Sprintf("%s: tolerating the taint %s is not allowed", at, t.Key))
		}
	}
	return problems
}

// forcedNode is what is said about nodeName.
func forcedNode(path string) string {
	return path + ".nodeName is not allowed; use nodeSelector kubernetes.io/hostname"
}
