// SPDX-License-Identifier: Apache-2.0

// Package v1 has the API osnode.infn.it/v1: OpenStackNode, a virtual machine of a
// user's OpenStack project that is a node of the cluster, and OpenStackNodePool, a
// number of them that follows the load. It is the only public Go API of this
// repository; it imports nothing but Kubernetes' own API types.
//
// +kubebuilder:object:generate=true
// +groupName=osnode.infn.it
package v1
