// SPDX-License-Identifier: Apache-2.0

// Program kube-mt-authn tells the API server whose a token is: a Keystone token, or one of
// an OpenID provider. See --help.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
