// SPDX-License-Identifier: Apache-2.0

// Package provider is the virtual kubelet's core: it keeps the pods of one
// virtual node and what the far end holds of them in step.
//
// Every pod is one entry of a table, keyed by UID. Three things change entries:
// the pod informer (what the origin wants), the far end's status stream or the
// poll that replaces it (what the far end holds), and the answers to this
// process' own requests. A work queue, keyed by UID as well, then brings each
// pod a step further, one step at a time and never two at once:
//
//	observe → reconcile → create | settle | remove → finish
//	stream or poll → apply → publish → virtual-kubelet's PodController → patch of the status
//
// The library's PodController is used for what it is good at, and never decides
// when a pod's API object is removed: see PodClient.
//
// Nothing is stored on disk. After a restart the far end is asked what it holds.
//
// It talks to the far end through internal/interlink only and imports no other
// component.
package provider
