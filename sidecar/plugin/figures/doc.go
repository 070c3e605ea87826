// SPDX-License-Identifier: Apache-2.0

// Package figures asks the target cluster what the created pods use, by the metrics
// API that kubectl top reads too. Whoever asks within the cluster's own resolution
// gets the same answer, so any number of origins costs one request per namespace
// and resolution; when nobody asks, nothing is asked.
//
// A cluster without a metrics server, or one that does not let the sidecar read,
// gives no figures, which is told as such.
package figures
