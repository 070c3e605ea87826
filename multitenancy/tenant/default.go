// SPDX-License-Identifier: Apache-2.0

package tenant

// DefaultPolicy is for a cluster with Kubernetes' own resources and OpenStackNodes. Every
// other custom resource has to be enabled.
func DefaultPolicy() Policy {
	return Policy{
		Resources:     append(ownedByDefault(), restrictedByDefault()...),
		ClusterScoped: clusterScopedByDefault(),
		SystemObjects: []Object{{Resource: "configmaps", Name: "kube-root-ca.crt"}},
		TrustedUsers:  []string{"system:serviceaccount:caas-system:osnode-controller"},
	}
}

func ownedByDefault() []Rule {
	return []Rule{
		{Resources: []string{"pods", "secrets", "persistentvolumeclaims", "serviceaccounts", "replicationcontrollers"}, Class: Owned},
		{Resources: []string{"services", "configmaps"}, Class: Shareable},
		{Group: "apps", Resources: []string{"deployments", "replicasets", "statefulsets", "daemonsets"}, Class: Owned},
		{Group: "batch", Resources: []string{"jobs", "cronjobs"}, Class: Owned},
		{Group: "autoscaling", Resources: []string{"horizontalpodautoscalers"}, Class: Owned},
		{Group: "policy", Resources: []string{"poddisruptionbudgets"}, Class: Owned},
		{Group: "networking.k8s.io", Resources: []string{"ingresses", "networkpolicies"}, Class: Owned},
		{Group: "resource.k8s.io", Resources: []string{"resourceclaims", "resourceclaimtemplates"}, Class: Owned},
		{Group: "osnode.infn.it", Resources: []string{"openstacknodes", "openstacknodepools"}, Class: Shareable},
	}
}

// restrictedByDefault are the resources that tenants do not write: controllers make
// them for owners, or administrators for all.
func restrictedByDefault() []Rule {
	return []Rule{
		{Resources: []string{"events", "endpoints"}, Class: Owned, ReadOnly: true},
		{Group: "events.k8s.io", Resources: []string{"events"}, Class: Owned, ReadOnly: true},
		{Group: "discovery.k8s.io", Resources: []string{"endpointslices"}, Class: Owned, ReadOnly: true},
		{Group: "apps", Resources: []string{"controllerrevisions"}, Class: Owned, ReadOnly: true},
		{Group: "metrics.k8s.io", Resources: []string{"pods"}, Class: Owned, ReadOnly: true},

		{Resources: []string{"resourcequotas", "limitranges"}, Class: System},
		{Group: "rbac.authorization.k8s.io", Resources: []string{"roles", "rolebindings"}, Class: System},

		{Resources: []string{"bindings", "podtemplates"}, Class: Denied},
		{Group: "coordination.k8s.io", Resources: []string{Any}, Class: Denied},
		{Group: "certificates.k8s.io", Resources: []string{Any}, Class: Denied},
		{Group: "authorization.k8s.io", Resources: []string{Any}, Class: Denied},
		{Group: "storage.k8s.io", Resources: []string{Any}, Class: Denied},
		{Group: "admissionregistration.k8s.io", Resources: []string{Any}, Class: Denied},
	}
}

func clusterScopedByDefault() []ClusterRule {
	create, read := []string{"create"}, []string{"get", "list", "watch"}
	return []ClusterRule{
		{
			Group: "authorization.k8s.io", Verbs: create,
			Resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"},
		},
		{Group: "authentication.k8s.io", Resources: []string{"selfsubjectreviews"}, Verbs: create},
		{Resources: []string{"namespaces"}, Verbs: []string{"get"}, Scope: OwnNamespace},
		{Resources: []string{"nodes"}, Verbs: read, Scope: OwnPool},
		{Resources: []string{"persistentvolumes"}, Verbs: []string{"list", "watch"}, Scope: OwnObjects},
		{Group: "storage.k8s.io", Resources: []string{"storageclasses"}, Verbs: read},
		{Group: "scheduling.k8s.io", Resources: []string{"priorityclasses"}, Verbs: read},
		{Group: "networking.k8s.io", Resources: []string{"ingressclasses"}, Verbs: read},
		{Group: "node.k8s.io", Resources: []string{"runtimeclasses"}, Verbs: read},
	}
}
