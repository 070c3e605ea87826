// SPDX-License-Identifier: Apache-2.0

// Package site runs a real control plane with the real webhooks of the platform, installed
// as cmd/kube-mt-setup installs them, for what judges or measures them together.
//
//	programs, err := site.Build(ctx, dir, site.Authz, site.Admission)
//	s, err := site.Start(ctx, site.Config{Dir: dir, Programs: programs, Users: users, Projects: projects})
//	defer s.Close()
//	alice := s.As("alice") // the token is the name in Users
//
// Who has which token it says itself, in the place and in the words of kube-mt-authn: no
// password has to be typed to find out what authorization and admission do. It imports the
// lab's parts and multitenancy/tenant, and no webhook.
package site
