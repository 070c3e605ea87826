// SPDX-License-Identifier: Apache-2.0

// Command kubectl-openstack logs people in to the platform: it configures kubectl with a token
// of Keystone, and hands out tokens to kubectl and other clients. It is a plugin of kubectl.
package main

import "github.com/cloudveneto/caas/internal/cli"

func main() { cli.Main(newCommand()) }
