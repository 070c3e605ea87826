// SPDX-License-Identifier: Apache-2.0

// Package jupyter carries the files of the notebook example, so that a program can apply exactly what users and sites
// apply with kubectl. It imports nothing of this module.
package jupyter

import _ "embed"

//go:embed notebook.yaml
var notebook string

//go:embed policy.yaml
var policy string

//go:embed claim.yaml
var claim string

// Names of what the manifests create, and what is in them.
const (
	Namespace = "jupyter"                // Namespace holds everything at the origin.
	Pod       = "jupyter-alice"          // Pod is the notebook server.
	Notebook  = "notebook"               // Notebook is the container that users talk to.
	Helper    = "helper"                 // Helper is the native sidecar.
	Home      = "/home/alice"            // Home is where the user's files are in the notebook's container.
	Claim     = "home-alice"             // Claim is the site's claim, and its volume, with the user's files.
	Model     = "nvidia-a100"            // Model is the accelerator that the pod prefers.
	Token     = "change-me-a0b1c2d3e4f5" //nolint:gosec // Token opens the server, unless somebody has changed it.
)

// Manifest is the YAML of the pod and what it needs at the origin.
func Manifest() string { return notebook }

// Policy is what the site puts into the configuration of its sidecar.
func Policy() string { return policy }

// ClaimManifest is the YAML of the site's claim.
func ClaimManifest() string { return claim }
