// SPDX-License-Identifier: Apache-2.0

//go:build bench

// Program tenancy measures what keeping users apart costs: the real webhooks and the proxy
// on a real control plane, and kube-mt-authn with a real Keystone. See --help.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
