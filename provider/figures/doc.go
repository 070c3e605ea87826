// SPDX-License-Identifier: Apache-2.0

// Package figures turns what the far end measured of pods into what a kubelet tells
// of its own: /stats/summary and /metrics/resource.
//
// The far end tells rates (CPU time per second, averaged over a window that ended at
// some time), a kubelet tells counters. So a counter is kept for each container: from
// one sample to the next it grows by the later sample's rate times the time between
// the two, and it carries the sample's time. Whoever computes a rate from two values
// gets what was measured. Counters never fall; they start anew when this process
// does, as a kubelet's do when a container restarts.
//
// Nothing is asked while nobody reads. What was not measured is left out: there are
// no made-up figures.
package figures
