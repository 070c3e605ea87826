// SPDX-License-Identifier: Apache-2.0

// Package admission keeps the objects of one user apart from those of the others in
// the same namespace: it is the mutating and the validating webhook of
// kube-mt-admission.
//
// The mutating half writes who owns an object, holds that on updates, restricts
// selectors to the owner's objects and places pods on nodes of the owner or of the
// project. The validating half trusts nothing of that: it looks at the object as it
// will be stored, and also checks every reference, whose names an object takes over,
// and what may run beside others.
//
// Rules are functions over a decoded request and the Index, which knows owners, UIDs
// and references of what exists. "No" and "cannot tell" are different answers; both
// refuse.
//
//	admitter, err := admission.New(admission.Config{Index: index, Policy: tenant.DefaultPolicy()})
//	if err != nil {
//		return err
//	}
//	router := admitter.Router()
//
// Only namespaces that have a project's label are ever looked at.
package admission
