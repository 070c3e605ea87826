// SPDX-License-Identifier: Apache-2.0

// Command interlink-api is an interLink API server: it stands between virtual
// kubelets and one interLink plugin.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
