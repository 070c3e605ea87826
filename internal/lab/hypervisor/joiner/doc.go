// SPDX-License-Identifier: Apache-2.0

// Package joiner is a driver of package hypervisor whose servers are kubelets as the API
// server sees them, and nothing else: a server's user data is read as cloud-init would
// read it, and with the bootstrap token in it a client certificate is asked for, by a real
// request over TLS; then the Node that was made for it becomes Ready, its lease is
// renewed, and a serving certificate is asked for. Nothing is run, so that hundreds of
// servers fit into one process.
//
// Options make a server misbehave in the ways that a hostile owner would.
package joiner
