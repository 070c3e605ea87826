// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
	"github.com/cloudveneto/caas/sidecar/plugin/watch"
)

// Settings are what a site decides, as written in its configuration file.
type Settings struct {
	// Namespace says where pods are created.
	Namespace NamespaceRule `json:"namespace"`
	// Selector is a label selector that is added to every list of pods; clusters
	// that hide other tenants' objects demand one, for instance osn.infn.it/userid=….
	Selector string `json:"selector,omitempty"`
	// VisibleNodes is a label selector for the nodes that the sidecar may list, on clusters that show everyone their own
	// only.
	VisibleNodes string `json:"visibleNodes,omitempty"`
	// Policy says how pods are translated.
	Policy translate.Policy `json:"policy"`
	// Capacity says what the virtual node offers.
	Capacity CapacitySettings `json:"capacity"`
	// Share is what the pods of one client may take together; what it does not name is
	// not limited. Names are those of the target cluster.
	Share corev1.ResourceList `json:"share,omitempty"`
	// MaxCreateBytes bounds a create or delete request; default 32 MiB.
	MaxCreateBytes int64 `json:"maxCreateBytes,omitempty"`
	// MaxStatusBytes bounds a status request; default 128 MiB.
	MaxStatusBytes int64 `json:"maxStatusBytes,omitempty"`
	// MaxCreates bounds the creates that are worked on at once; default 256.
	MaxCreates int `json:"maxCreates,omitempty"`
	// MaxSessions bounds the connections into pods (exec, attach, port-forward) that
	// are open at once; default 1024.
	MaxSessions int `json:"maxSessions,omitempty"`
	// SessionIdle is how long nothing may move in such a connection; default 4h, a
	// kubelet's own limit. A caller that stops reading is not cut off before.
	SessionIdle metav1.Duration `json:"sessionIdle"`
	// RequestTimeout bounds one create or delete; default 1m.
	RequestTimeout metav1.Duration `json:"requestTimeout"`
	// TombstoneLife is how long a deleted pod cannot be created again; default 30m, at least 10m.
	TombstoneLife metav1.Duration `json:"tombstoneLife"`
}

// CapacitySettings say what the virtual node offers.
type CapacitySettings struct {
	// Disabled leaves the capacity to the virtual kubelet's own configuration.
	Disabled bool `json:"disabled,omitempty"`
	// NodeSelector selects the nodes that count; default is policy.nodeSelector.
	NodeSelector string `json:"nodeSelector,omitempty"`
	// Tolerations are taints that do not stop a node from counting, beside those
	// of policy.tolerations; default is the taint of tenants' own nodes.
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// Static is offered when the sidecar may not see nodes.
	Static corev1.ResourceList `json:"static,omitempty"`
	// Labels are keys of labels that the virtual node takes over from the nodes that
	// count; default is accelerator, and an empty list is none.
	Labels []string `json:"labels,omitempty"`
}

// NamespaceMode says how the namespace of a created pod is found.
type NamespaceMode string

const (
	// NamespaceFixed sends every pod to one namespace.
	NamespaceFixed NamespaceMode = "fixed"
	// NamespaceMap looks it up in a table from origin to target namespaces; others are refused.
	NamespaceMap NamespaceMode = "map"
	// NamespaceSame takes the namespace of the same name.
	NamespaceSame NamespaceMode = "same"
)

// NamespaceRule says where pods are created.
type NamespaceRule struct {
	Mode  NamespaceMode     `json:"mode"`
	Fixed string            `json:"fixed,omitempty"`
	Map   map[string]string `json:"map,omitempty"`
	// Allowed limits mode same to these namespaces; empty is all.
	Allowed []string `json:"allowed,omitempty"`
}

// Complete sets defaults and reports all problems at once.
func (s *Settings) Complete() error {
	return s.CompleteFrom(func(section string) string { return section })
}

// CompleteFrom is Complete for settings from several places; at says where a section,
// a key of the file's top level, stands.
func (s *Settings) CompleteFrom(at func(section string) string) error {
	fallback(&s.MaxCreateBytes, 32<<20)
	fallback(&s.MaxStatusBytes, 128<<20)
	fallback(&s.MaxCreates, 256)
	fallback(&s.MaxSessions, 1024)
	fallback(&s.SessionIdle.Duration, 4*time.Hour)
	fallback(&s.RequestTimeout.Duration, time.Minute)
	fallback(&s.TombstoneLife.Duration, 30*time.Minute)
	if s.Capacity.NodeSelector == "" {
		s.Capacity.NodeSelector = labels.SelectorFromSet(s.Policy.NodeSelector).String()
	}
	if s.Capacity.Tolerations == nil {
		s.Capacity.Tolerations = []corev1.Toleration{{Key: "osn.infn.it/pool", Operator: corev1.TolerationOpExists}}
	}
	if s.Capacity.Labels == nil {
		s.Capacity.Labels = []string{"accelerator"}
	}
	problems := []error{
		s.Namespace.validate(at("namespace")), s.Policy.Validate(at("policy")),
		amounts(at("share"), s.Share), amounts(at("capacity")+".static", s.Capacity.Static),
		labelKeys(at("capacity")+".labels", s.Capacity.Labels),
	}
	for key, selector := range map[string]string{
		at("selector"): s.Selector, at("visibleNodes"): s.VisibleNodes, at("capacity") + ".nodeSelector": s.Capacity.NodeSelector,
	} {
		if _, err := labels.Parse(selector); err != nil {
			problems = append(problems, fmt.Errorf("%s: %q: %w", key, selector, err))
		}
	}
	for key, value := range map[string]int64{
		"maxCreateBytes": s.MaxCreateBytes, "maxStatusBytes": s.MaxStatusBytes, "maxCreates": int64(s.MaxCreates),
		"requestTimeout": int64(s.RequestTimeout.Duration), "maxSessions": int64(s.MaxSessions), "sessionIdle": int64(s.SessionIdle.Duration),
	} {
		if value < 1 {
			problems = append(problems, fmt.Errorf("%s: %d: must be positive", at(key), value))
		}
	}
	if s.TombstoneLife.Duration < 10*time.Minute {
		problems = append(problems, fmt.Errorf("%s: %s: must be at least 10m, or a late create brings a deleted pod back", at("tombstoneLife"), s.TombstoneLife.Duration))
	}
	return errors.Join(problems...)
}

// amounts checks quantities of resources.
func amounts(at string, list corev1.ResourceList) error {
	var problems []error
	for name, quantity := range list {
		if issues := validation.IsQualifiedName(string(name)); len(issues) > 0 {
			problems = append(problems, fmt.Errorf("%s: %q: %s", at, name, issues[0]))
		}
		if quantity.Sign() < 0 {
			problems = append(problems, fmt.Errorf("%s: %s: %s: must not be negative", at, name, quantity.String()))
		}
		if prefix, _, _ := strings.Cut(string(name), "."); prefix == "requests" || prefix == "limits" {
			problems = append(problems, fmt.Errorf("%s: %s: is the name of a quota; want that of a resource, like cpu", at, name))
		}
	}
	return errors.Join(problems...)
}

// labelKeys checks which labels of nodes are told.
func labelKeys(at string, keys []string) error {
	var problems []error
	for i, key := range keys {
		issues := validation.IsQualifiedName(key)
		if len(issues) == 0 && interlink.ReservedLabel(key) {
			issues = []string{"a virtual node has labels of its own under kubernetes.io and k8s.io"}
		}
		if len(issues) > 0 {
			problems = append(problems, fmt.Errorf("%s[%d]: %q: %s", at, i, key, issues[0]))
		}
	}
	return errors.Join(problems...)
}

func fallback[T comparable](value *T, standard T) {
	var zero T
	if *value == zero {
		*value = standard
	}
}

func (n *NamespaceRule) validate(at string) error {
	var problems []error
	check := func(key, name string) {
		if issues := validation.IsDNS1123Label(name); len(issues) > 0 {
			problems = append(problems, fmt.Errorf("%s.%s: %q is no namespace name", at, key, name))
		}
	}
	switch n.Mode {
	case NamespaceFixed:
		check("fixed", n.Fixed)
	case NamespaceMap:
		if len(n.Map) == 0 {
			problems = append(problems, fmt.Errorf("%s.map: empty, so every pod would be refused", at))
		}
		for from, to := range n.Map {
			check("map", from)
			check("map["+from+"]", to)
		}
	case NamespaceSame:
		for _, name := range n.Allowed {
			check("allowed", name)
		}
	default:
		problems = append(problems, fmt.Errorf("%s.mode: %q: want fixed, map or same", at, n.Mode))
	}
	return errors.Join(problems...)
}

// target is the namespace for a pod of an origin's namespace.
func (n *NamespaceRule) target(origin string) (string, error) {
	refused := func(remedy string) error {
		return &translate.RefusalError{Problems: []translate.Problem{{
			Field: "metadata.namespace", Value: origin, Rule: "the site runs no pods of this namespace", Remedy: remedy,
		}}}
	}
	switch n.Mode {
	case NamespaceFixed:
		return n.Fixed, nil
	case NamespaceMap:
		if target, found := n.Map[origin]; found {
			return target, nil
		}
		return "", refused("ask the site to add it to namespace.map")
	case NamespaceSame:
		if len(n.Allowed) > 0 && !slices.Contains(n.Allowed, origin) {
			return "", refused("ask the site to add it to namespace.allowed")
		}
	}
	return origin, nil
}

// namespaces are where created pods can be; "" is all of them.
func (s *Settings) namespaces() []string {
	switch s.Namespace.Mode {
	case NamespaceFixed:
		return []string{s.Namespace.Fixed}
	case NamespaceMap:
		names := slices.Sorted(maps.Values(s.Namespace.Map))
		return slices.Compact(names)
	case NamespaceSame:
		if len(s.Namespace.Allowed) > 0 {
			return slices.Compact(slices.Sorted(slices.Values(s.Namespace.Allowed)))
		}
	}
	return []string{metav1.NamespaceAll}
}

func (s *Settings) capacity() watch.CapacityConfig {
	names := map[corev1.ResourceName]corev1.ResourceName{}
	for origin, target := range s.Policy.Resources {
		names[target] = origin
	}
	return watch.CapacityConfig{
		Disabled: s.Capacity.Disabled, NodeSelector: s.Capacity.NodeSelector, Static: s.Capacity.Static,
		Tolerations: slices.Concat(s.Capacity.Tolerations, s.Policy.Tolerations), Names: names, Share: s.Share,
		Labels: s.Capacity.Labels,
	}
}
