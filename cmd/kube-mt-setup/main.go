// SPDX-License-Identifier: Apache-2.0

// Program kube-mt-setup writes all that stands beside an API server whose namespaces users
// of OpenStack projects share. See --help.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
