// SPDX-License-Identifier: Apache-2.0

// Package bootstrap writes the user data with which a virtual machine becomes a node: a
// MIME message for cloud-init whose parts are
//
//  1. the platform's preparation: the kubelet's configuration and credentials, registry
//     mirrors, the second disk;
//  2. the site's own part, from the configuration;
//  3. the platform's start: containerd and the kubelet;
//  4. the user's part.
//
// cloud-init merges the parts that are cloud-configs into one. How a part is merged into
// those before it is said in the part itself, so every part of ours and every part that
// passes through here has the header
//
//	Merge-Type: list(append)+dict(no_replace,recurse_list)+str()
//
// with which lists (write_files, runcmd) grow at their end and what is there stays. What
// a later part could still undo, such as a file of the same path, is refused. Scripts are
// named so that cloud-init runs them after all commands, the site's before the user's.
//
// The owner of a machine has root on it and can change anything: none of this is a
// protection, it only keeps accidents away.
//
// The package is pure: it reads and calls nothing, and the same input gives the same
// bytes. It imports the standard library, Kubernetes' API machinery and a YAML codec.
package bootstrap
