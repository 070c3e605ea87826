// SPDX-License-Identifier: Apache-2.0

// Command interlink-sidecar is the interLink plugin that runs offloaded pods in a
// Kubernetes cluster.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
