// SPDX-License-Identifier: Apache-2.0

// Program kube-mt-proxy stands before the API server and selects for users what is theirs,
// so that plain kubectl works. See --help.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
