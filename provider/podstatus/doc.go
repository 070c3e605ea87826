// SPDX-License-Identifier: Apache-2.0

// Package podstatus turns what the far end says of a pod into the status of the
// origin's pod. It is pure: everything it needs, the time included, is an argument.
//
// Two kinds of far end exist. One with pod-level detail tells the whole truth,
// which is taken over, restricted to what the origin's spec knows. One without
// (upstream's plugins) reports container states only; phase and conditions are
// then derived from them and from the spec:
//
//	status := podstatus.From(podstatus.Input{Pod: pod, Previous: pod.Status, Wire: wire, Now: now})
//
// Whatever the input, the result has exactly one status per container of the
// spec, each with exactly one state, and times of whole seconds, which is what
// the API server keeps.
//
// It may import the wire types and the Kubernetes API types only.
package podstatus
