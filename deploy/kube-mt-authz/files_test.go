// SPDX-License-Identifier: Apache-2.0

package kubemtauthz_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// rules reads the rules of a ClusterRole in a file.
func rules(t *testing.T, file, name string) []rbacv1.PolicyRule {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		role := rbacv1.ClusterRole{}
		err := decoder.Decode(&role)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if role.Kind == "ClusterRole" && role.Name == name {
			return role.Rules
		}
	}
	require.Failf(t, "no such role", "%s in %s", name, file)
	return nil
}

func grants(rules []rbacv1.PolicyRule, group, resource, verb string) bool {
	return slices.ContainsFunc(rules, func(rule rbacv1.PolicyRule) bool {
		return slices.Contains(rule.APIGroups, group) && slices.Contains(rule.Resources, resource) && slices.Contains(rule.Verbs, verb)
	})
}

func TestReaderMayReadWhatTenantsOwn(t *testing.T) {
	t.Parallel()
	reader := rules(t, "rbac.yaml", "kube-mt-authz")
	for _, rule := range tenant.DefaultPolicy().Resources {
		for _, resource := range rule.Resources {
			owned := rule.Class == tenant.Owned || rule.Class == tenant.Shareable
			assert.Equal(t, owned, grants(reader, rule.Group, resource, "get"), "%s/%s", rule.Group, resource)
			// Events are asked for one by one, and metrics cannot be watched.
			if owned && resource != "events" && rule.Group != "metrics.k8s.io" {
				assert.True(t, grants(reader, rule.Group, resource, "list") && grants(reader, rule.Group, resource, "watch"), "%s/%s", rule.Group, resource)
			}
		}
	}
	for _, rule := range reader {
		assert.Subset(t, []string{"get", "list", "watch"}, rule.Verbs)
	}
}

func TestTenantsMayWhatThePolicyLetsThem(t *testing.T) {
	t.Parallel()
	role, policy := rules(t, "tenant-role.yaml", "mt-tenant"), tenant.DefaultPolicy()
	for _, rule := range policy.Resources {
		for _, resource := range rule.Resources {
			if resource == tenant.Any {
				continue
			}
			assert.Equal(t, rule.Class != tenant.Denied, grants(role, rule.Group, resource, "list"), "%s/%s", rule.Group, resource)
			for _, verb := range []string{"create", "update", "patch", "delete", "deletecollection"} {
				assert.Equal(t, policy.Writable(rule.Group, resource), grants(role, rule.Group, resource, verb), "%s %s/%s", verb, rule.Group, resource)
			}
		}
	}
	cluster := rules(t, "tenant-role.yaml", "mt-tenant-cluster")
	for _, rule := range cluster {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				_, allowed := policy.ClusterScope(rule.APIGroups[0], resource, verb)
				assert.True(t, allowed, "%s %s", verb, resource)
			}
		}
	}
	for _, rule := range slices.Concat(role, cluster) {
		assert.NotContains(t, rule.Verbs, "*")
		assert.NotContains(t, rule.Resources, "*")
	}
}

func TestStaticPodIsOnTheHostsNetwork(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("static-pod.yaml")
	require.NoError(t, err)
	pod := corev1.Pod{}
	require.NoError(t, yaml.UnmarshalStrict(content, &pod))
	assert.True(t, pod.Spec.HostNetwork)
	assert.Equal(t, []string{"--config=/etc/kubernetes/mt/authz.yaml"}, pod.Spec.Containers[0].Args)
}
