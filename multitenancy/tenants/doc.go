// SPDX-License-Identifier: Apache-2.0

// Package tenants makes the namespaces of projects: one as soon as the first member of a
// project logs in, with the bindings that let the members in. A namespace belongs to the
// project whose id is in its label; names say nothing.
//
// It never deletes: a namespace whose project is gone is marked for the administrator.
// What an administrator has changed it leaves as it is, and it adds what is missing. Any
// number of processes may do this at once.
//
//	controller, err := tenants.New(tenants.Config{Client: client})
//	handler, err := authn.New(authn.Config{Keystone: verifier, Seen: controller.Seen})
//	err = controller.Run(ctx)
//
// Of this module it imports multitenancy/tenant and internal/logging.
package tenants
