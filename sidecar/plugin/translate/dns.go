// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// maxNameservers and maxSearches are the API's limits.
const (
	maxNameservers = 3
	maxSearches    = 32
)

// dns makes a pod that uses its cluster's DNS use that of its origin, where the
// policy knows it: the names of the origin's Services resolve nowhere else.
func (t *translation) dns(from *corev1.PodSpec) (corev1.DNSPolicy, *corev1.PodDNSConfig) {
	policy := from.DNSPolicy
	if policy == corev1.DNSClusterFirstWithHostNet {
		t.mapped("spec.dnsPolicy", string(corev1.DNSClusterFirst)+": the pod is not on the node's network")
	}
	if policy == corev1.DNSClusterFirstWithHostNet || policy == "" {
		policy = corev1.DNSClusterFirst
	}
	origin, known := t.policy.DNS[t.pod.Annotations[interlink.AnnotationOriginCluster]]
	if !known {
		origin, known = t.policy.DNS["*"]
	}
	if policy != corev1.DNSClusterFirst || !known {
		return policy, from.DNSConfig
	}
	domain := origin.Domain
	if domain == "" {
		domain = "cluster.local"
	}
	ndots := "5"
	config := &corev1.PodDNSConfig{
		Nameservers: slices.Clone(origin.Nameservers),
		Searches:    []string{t.pod.Namespace + ".svc." + domain, "svc." + domain, domain},
		Options:     []corev1.PodDNSConfigOption{{Name: "ndots", Value: &ndots}},
	}
	if from.DNSConfig != nil {
		config.Nameservers = cut(append(config.Nameservers, from.DNSConfig.Nameservers...), maxNameservers)
		config.Searches = cut(append(config.Searches, from.DNSConfig.Searches...), maxSearches)
		config.Options = mergeOptions(config.Options, from.DNSConfig.Options)
		left := beyond(from.DNSConfig.Nameservers, config.Nameservers)
		t.dropIf(len(left) > 0, "spec.dnsConfig.nameservers", fmt.Sprintf("beyond the limit of %d: %s", maxNameservers, strings.Join(left, ", ")))
		left = beyond(from.DNSConfig.Searches, config.Searches)
		t.dropIf(len(left) > 0, "spec.dnsConfig.searches", fmt.Sprintf("beyond the limit of %d: %s", maxSearches, strings.Join(left, ", ")))
	}
	t.mapped("spec.dnsPolicy", "uses the origin cluster's DNS")
	return corev1.DNSNone, config
}

// cut removes duplicates, as the kubelet does, and what is beyond the API's limit.
func cut(list []string, limit int) []string {
	var unique []string
	for _, entry := range list {
		if !slices.Contains(unique, entry) && len(unique) < limit {
			unique = append(unique, entry)
		}
	}
	return unique
}

// mergeOptions lets the pod's own options replace the defaults of the same name.
func mergeOptions(defaults, own []corev1.PodDNSConfigOption) []corev1.PodDNSConfigOption {
	merged := slices.DeleteFunc(slices.Clone(defaults), func(option corev1.PodDNSConfigOption) bool {
		return slices.ContainsFunc(own, func(other corev1.PodDNSConfigOption) bool { return other.Name == option.Name })
	})
	return append(merged, own...)
}
