// SPDX-License-Identifier: Apache-2.0

// Program kube-mt-authz keeps tenants of one namespace apart: an authorization
// webhook of the API server. See --help.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
