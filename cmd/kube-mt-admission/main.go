// SPDX-License-Identifier: Apache-2.0

// Program kube-mt-admission is the admission webhook that keeps users of one namespace
// apart. See --help.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
