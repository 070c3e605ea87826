// SPDX-License-Identifier: Apache-2.0

// Package authz decides which requests of tenants the API server lets through to RBAC: those for what is theirs. It is
// the webhook kube-mt-authz of the chain Node, Webhook, RBAC, and only ever restricts: its answers are Deny and no
// opinion, never Allow.
//
// Named objects are decided by an index of all owners, which informers of nothing but metadata keep; what the index does not
// know is asked for, within limits, and what cannot be known is denied. Lists and watches are decided by their label
// selector alone: it has to name the caller as the owner.
//
//	rules, err := authz.NewRules(policy, authz.Options{})
//	verdict := rules.Decide(request, index) // pure: no clock, no network
//
// Handler puts both together and serves SubjectAccessReview v1. Of this module the package imports multitenancy/tenant and
// internal packages only.
package authz
