// SPDX-License-Identifier: Apache-2.0

// Package tenant is the vocabulary of ownership that authentication, authorization,
// admission and the proxy share: who a user is, which labels say whose an object is,
// which namespace belongs to which project, and which kinds of objects have owners.
//
// It is pure: it decides from what it is given, reads nothing and keeps nothing, and
// imports only the standard library and the Kubernetes API types.
//
//	who := tenant.IdentityOf(tenant.User{Name: name, UID: uid, Groups: groups, Extra: extra})
//	namespace := tenant.NamespaceOf(ns.Name, ns.Labels)
//	if namespace.Tenant && who.MemberOf(namespace.ProjectID) && tenant.OwnerOf(pod.Labels).Is(who.Owner) {
//		// the pod is the caller's own
//	}
package tenant
