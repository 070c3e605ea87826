// SPDX-License-Identifier: Apache-2.0

// Package mirror writes the events that the far end tells of pods as Events of the
// origin's pods.
//
// An event's name follows from its identity at the far end, so a restart or a new
// connection writes the same object again and doubles nothing. What can be written
// is bounded per pod and in all; an event that changes while it waits is written
// once, as it is then.
//
//	m, err := mirror.New(mirror.Config{Client: client, Node: "caas-0"})
//	m.Take(pod, event) // returns at once
//	m.Run(ctx)         // writes
package mirror
