// SPDX-License-Identifier: Apache-2.0

// Command caas-lab runs a whole site on one machine: two real Kubernetes clusters with real nodes.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
