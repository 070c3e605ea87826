// SPDX-License-Identifier: Apache-2.0

// Package controller makes an OpenStackNode true: a virtual machine in the project of
// its owner, and the Node that the machine becomes. It owns the object's finalizer and
// status, the Secret of its bootstrap token, and what happens when either goes.
//
// A reconcile is a pass through the phases, one file each: identity, authorize, resolve,
// quota, token, launch, observe, register, expire; or, for an object that is being
// deleted, finish, with drain and detach. A phase changes the object in memory and says
// whether the pass goes on; the status is written once, at the end, and before a machine
// is asked for. No phase waits: it says when it wants to be called again.
//
// What becomes of the conditions is in describe.go, what follows from a refusal in
// refuse.go; both are pure. OpenStack is behind Cloud; this package knows none of its
// protocols. What no object accounts for is found by the Collector.
package controller
