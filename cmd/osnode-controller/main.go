// SPDX-License-Identifier: Apache-2.0

// Program osnode-controller makes OpenStackNodes virtual machines that join the
// cluster. See --help.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
