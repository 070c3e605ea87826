// SPDX-License-Identifier: Apache-2.0

// Package service is what this project's services have in common: a command that reads a configuration file, checks it, and
// serves; what they show of themselves; and how they run.
//
//	func newCommand() *cobra.Command {
//		command := service.Program[*file]{
//			Name: "kube-mt-authz", EnvPrefix: "MT_AUTHZ_", Config: "/etc/kubernetes/mt/authz.yaml", Load: load, Serve: serve,
//		}.Command()
//		…
//		return command
//	}
//
// It knows no component; cmd/* gives it theirs.
package service
