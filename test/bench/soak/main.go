// SPDX-License-Identifier: Apache-2.0

//go:build bench

// Program soak has the offloading path work under random load and faults for a long time, and measures what is left of
// it. See --help.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
