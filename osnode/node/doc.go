// SPDX-License-Identifier: Apache-2.0

// Package node knows what the Node of an OpenStackNode has to be like: its name,
// provider id, labels and taints. It is pure: it builds and compares objects, and
// talks to nobody.
//
// The machine behind such a Node belongs to a user who is root on it. So the platform
// makes the Node before the machine may join, and what decides where pods run is put
// where a kubelet cannot change it: labels with the suffix node-restriction.kubernetes.io,
// and taints. The plain osn.infn.it/ labels are copies for people.
//
//	wanted, err := node.For(osn, pool) // pool is nil for a node that no pool made
//	…
//	if node.Repair(current, osn, pool) {
//		// write current
//	}
package node
