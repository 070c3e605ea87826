// SPDX-License-Identifier: Apache-2.0

// Package interlink owns the interLink wire: the JSON messages that a virtual
// kubelet, an interLink API server and a plugin exchange, and a client for them.
//
// The messages are those of upstream interLink 0.5 to 0.6.2, held by golden
// fixtures in testdata. What this project adds is in extension.go; it is used
// only when the ping answer names it, so both ends speak plain upstream otherwise.
//
// Wire names stay inside this package: callers translate at once. It imports
// nothing of this module.
package interlink
