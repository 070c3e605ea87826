// SPDX-License-Identifier: Apache-2.0

package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group, Version its version.
const (
	Group   = "osnode.infn.it"
	Version = "v1"
)

// GroupVersion is the group with its version.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: Group, Version: Version}
}

// AddToScheme adds all types of the group to scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion(),
		&OpenStackNode{}, &OpenStackNodeList{},
		&OpenStackNodePool{}, &OpenStackNodePoolList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion())
	return nil
}
