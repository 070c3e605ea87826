// SPDX-License-Identifier: Apache-2.0

// Package podstate turns a created pod into the wire's pod status, in two forms.
// It is pure.
//
// True is the pod's status as it is, for this project's virtual kubelet.
//
// Conservative is for upstream's virtual kubelet, which derives a phase from
// container states alone, takes every terminated container as final, an empty list
// as success, and stops on lists that miss a container. So each container of the
// origin's spec is always there, and none is terminated unless it stays so.
package podstate
