// SPDX-License-Identifier: Apache-2.0

// Package offload runs the offloading path on a lab: the sidecar and the
// interLink API for the caas cluster, and a virtual kubelet that registers a
// node in the af cluster, as processes inside the lab's network. A lab can hold
// several paths side by side; each has a name, which is its virtual node's.
package offload
