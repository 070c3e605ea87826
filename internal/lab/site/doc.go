// SPDX-License-Identifier: Apache-2.0

// Package site runs in a lab with OpenStack what a CaaS site runs: the namespaces of the OpenStack projects with the
// rights of their members, the OSNode controller with the manifests of deploy/osnode, and users who can be logged in as.
//
//	s, err := site.New(ctx, site.Config{Lab: l, BinDir: "/opt/caas/bin"})
//	err = s.Start(ctx)
//	kubeconfig, err := s.UserKubeconfig(ctx, "zangrand@infn.it", "CMS")
package site
