// SPDX-License-Identifier: Apache-2.0

//go:build bench

// Program osnode measures what OpenStackNodes cost and what they withstand: the real
// osnode-controller on a real control plane, with the lab's real OpenStack where its own
// speed matters, and with the stand-in where faults or numbers do. See --help.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
