// SPDX-License-Identifier: Apache-2.0

// Package property plays random histories of tenants' requests on a real cluster with the
// real webhooks, and compares each answer with a model that is written from the
// specification: who may see and change what. Nobody may ever see or change what the model
// forbids, and nobody may be denied what it allows.
//
//	s, err := site.Start(ctx, property.Site(dir, programs))
//	result, err := property.Run(ctx, s, property.Options{Seed: 1, Steps: 2000})
//	result, err = property.RunConcurrently(ctx, s, property.Options{Seed: 1, Steps: 2000})
//
// Run is sequential and judges both ways. RunConcurrently has all users act at the same
// time; what is allowed then depends on who was first, so it judges what users see and
// change, and not what they are denied. Beside both an administrator watches everything
// that is stored.
//
// The model imports names of labels from multitenancy/tenant and no decision of any webhook.
package property
