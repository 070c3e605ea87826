// SPDX-License-Identifier: Apache-2.0

// Package deploy carries those manifests of this directory that the lab uses
// too, so that what sites apply is what is tested. It imports nothing of this
// module.
package deploy

import _ "embed"

//go:embed interlink-sidecar/rbac.yaml
var sidecarRights string

//go:embed interlink-sidecar/rbac-capacity.yaml
var sidecarCapacityRights string

// SidecarRights is the YAML with the Role of the sidecar in the namespace of its
// pods, which is called cms in it.
func SidecarRights() string { return sidecarRights }

// SidecarCapacityRights is the YAML with the ClusterRole that lets the sidecar
// see how much room there is.
func SidecarCapacityRights() string { return sidecarCapacityRights }
