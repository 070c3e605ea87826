// SPDX-License-Identifier: Apache-2.0

// Package osnode carries the manifests of osnode-controller, so that what sites apply is
// also what the lab and the tests use. It imports nothing of this module.
//
//	crds/                the API osnode.infn.it/v1
//	rbac.yaml            the controller's ServiceAccount and its rights
//	bootstrap-rbac.yaml  the rights of machines that join
//	tenant-role.yaml     the rights of a project's members
//	policies.yaml        ValidatingAdmissionPolicies: what RBAC cannot say
//	owner-labels.yaml    a MutatingAdmissionPolicy, for clusters without kube-mt-admission
//	deployment.yaml      the controller itself
//	dashboards/          for Grafana
package osnode

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed *.yaml crds/*.yaml dashboards/*.json
var files embed.FS

// Files are the manifests, by the names above. Nobody can change them.
func Files() fs.FS { return files }

// CRDs are the names of the files with the API.
func CRDs() []string {
	return []string{"crds/osnode.infn.it_openstacknodes.yaml", "crds/osnode.infn.it_openstacknodepools.yaml"}
}

// Rules are the names of the files, besides CRDs, that a cluster needs before the
// controller runs, in the order in which to apply them.
func Rules() []string {
	return []string{"rbac.yaml", "bootstrap-rbac.yaml", "tenant-role.yaml", "policies.yaml"}
}

// OwnerLabels is the name of the file for clusters without kube-mt-admission.
const OwnerLabels = "owner-labels.yaml"

// Deployment is the name of the file that runs the controller inside the cluster.
const Deployment = "deployment.yaml"

// Read returns a file.
func Read(name string) ([]byte, error) {
	content, err := files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return content, nil
}
