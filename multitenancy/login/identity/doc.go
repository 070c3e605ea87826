// SPDX-License-Identifier: Apache-2.0

// Package identity is Keystone as one of its users sees it: logging in, projects,
// application credentials and trusts. It is small on purpose, since kubectl starts it
// for each command: it knows no other service of OpenStack and links no client library.
//
// Errors are *Error and say what a person can do about them. Secrets are of type Secret
// and do not get into texts or logs.
//
//	client, err := identity.New(identity.Config{AuthURL: "https://keystone.example.org:5000/v3"})
//	token, err := client.Login(ctx, identity.Credential{UserName: "zangrand", Password: "…"}, identity.Scope{ProjectName: "CMS"})
package identity
