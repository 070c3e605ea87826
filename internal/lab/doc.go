// SPDX-License-Identifier: Apache-2.0

// Package lab assembles a whole site on one machine: two real Kubernetes clusters with real nodes in one LAN, a DNS for
// each, and a registry with the images that the examples use.
//
//	caas   the CaaS cluster (10.88.0.1:6443)
//	af     the remote cluster, an analysis facility (10.88.0.1:7443)
//
// Everything runs in network namespaces of its own, so that labs with different names do not see each other, and nothing
// of the machine's network is touched. The machine reaches the API servers through loopback ports which the lab's
// supervisor forwards. All files are in one directory; Down leaves nothing behind.
//
//	err := lab.Up(ctx, lab.Config{Name: "lab", Executable: "/usr/local/bin/caas-lab"})
//	l, err := lab.Open("lab")
//	caas, err := l.Cluster(lab.CaaS)
//	config, err := caas.RESTConfig()
//
// The package wires the packages below internal/lab together and imports nothing else of this repository but logging.
package lab
