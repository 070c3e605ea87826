// SPDX-License-Identifier: Apache-2.0

// Package soak has an offloading path work for a long time under a seeded random load, while what is between its processes
// is disturbed and they are killed, and finds out whether both clusters agree in the end:
//
//   - one to one: each pod of the virtual node has exactly one at the target, with the same phase, readiness, address,
//     labels, annotations and content of ConfigMaps and Secrets; nothing else is left there, nothing is still ending;
//   - no pod was ever reported as ended that had not ended, went back in its life, or was run twice;
//   - no program ended by itself, and none holds more memory or goroutines than it needs.
//
// Pods run on fake nodes, where they cost nothing but requests. All chances follow from a seed; what the machine makes of
// them does not. The package knows Kubernetes and the lab, not the components.
package soak
