// SPDX-License-Identifier: Apache-2.0

// Package events follows the Events of the target cluster about the pods that the
// sidecar created, so that they can be told at the origin.
//
// One watch per namespace fills a store that keeps the last events of each pod, for
// readers that come later; what the cluster forgets (after an hour, by default) is
// forgotten here too. Events about other people's pods are not kept. Subscriptions
// hold the last state of each event that was not taken yet, so a slow reader costs
// no more than the store.
package events
