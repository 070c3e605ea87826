// SPDX-License-Identifier: Apache-2.0

// Package mtconfig makes, of what a site says in one small file, all that the three webhooks
// of the platform's multitenancy and the API server beside them read: certificates,
// kubeconfig files, configurations, manifests, units, and the API server's flags.
//
//	site, err := mtconfig.Parse(content)
//	changes, err := mtconfig.Install(site, mtconfig.Options{})
//	findings, err := mtconfig.Check(site, time.Now())
//
// Texts are those of the directories deploy/kube-mt-…, with the site's values. It imports
// package deploy and nothing else of this module.
package mtconfig
