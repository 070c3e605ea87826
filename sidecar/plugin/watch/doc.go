// SPDX-License-Identifier: Apache-2.0

// Package watch follows the target cluster: the created pods, which it writes into
// the table, and the nodes, other pods and quotas that say how much room there is.
// Everything is pushed by the API server; nothing is polled.
//
// A tenant often may not see nodes or other people's pods. What it may not see is
// found out at the start and left out.
package watch
