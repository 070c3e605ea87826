// SPDX-License-Identifier: Apache-2.0

// Package table owns what the sidecar knows about the pods that it created: one
// record per pod, keyed by the pod's identity at its origin, written by the watch
// and read by everyone else without a request to the target cluster.
//
// Subscriptions see every change of the pods that they select. Changes that a slow
// reader has not taken yet are merged per pod, so a subscription never holds more
// than the last state of each pod.
package table
