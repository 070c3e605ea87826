// SPDX-License-Identifier: Apache-2.0

// Command virtual-kubelet registers a virtual node in a Kubernetes cluster and
// runs the pods placed on it at the far end of an interLink API.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(command()) }
