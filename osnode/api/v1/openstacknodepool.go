// SPDX-License-Identifier: Apache-2.0

package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// OpenStackNodePool is a number of OpenStackNodes that are alike, made and removed as pods need them.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=openstacknodepools,shortName=osnp,scope=Namespaced
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Desired",type=integer,JSONPath=`.spec.replicas`
// +kubebuilder:printcolumn:name="Current",type=integer,JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.readyReplicas`
// +kubebuilder:printcolumn:name="Min",type=integer,JSONPath=`.spec.autoscaling.min`
// +kubebuilder:printcolumn:name="Max",type=integer,JSONPath=`.spec.autoscaling.max`
// +kubebuilder:printcolumn:name="Policy",type=string,JSONPath=`.spec.template.policy`
// +kubebuilder:printcolumn:name="Owner",type=string,JSONPath=`.metadata.labels.osn\.infn\.it/username`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 43",message="the name must have at most 43 characters: the nodes' names are it with six more"
// +kubebuilder:validation:XValidation:rule="!self.metadata.name.contains('.')",message="the name must not contain a dot: it is also part of the virtual machines' names"
type OpenStackNodePool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec   OpenStackNodePoolSpec   `json:"spec"`
	Status OpenStackNodePoolStatus `json:"status,omitempty"`
}

// OpenStackNodePoolList is a list of OpenStackNodePools.
//
// +kubebuilder:object:root=true
type OpenStackNodePoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []OpenStackNodePool `json:"items"`
}

// Driver is who decides about a pool's size.
//
// +kubebuilder:validation:Enum=builtin;externalgrpc;none
type Driver string

// The drivers.
const (
	DriverBuiltin      Driver = "builtin"
	DriverExternalGRPC Driver = "externalgrpc"
	DriverNone         Driver = "none"
)

// OpenStackNodePoolSpec says which nodes are wanted, and how many.
type OpenStackNodePoolSpec struct {
	// Replicas is how many nodes are wanted now. The autoscaler changes it within its limits.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Replicas *int32 `json:"replicas,omitempty"`
	// Autoscaling makes the number follow the pods that wait.
	// +optional
	Autoscaling *Autoscaling `json:"autoscaling,omitempty"`
	// Flavors are tried in the order that wastes least; the first is used when nothing waits.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=255
	// +listType=set
	Flavors []string `json:"flavors"`
	// Template is what the nodes are like.
	Template NodeTemplate `json:"template"`
	// TTL is how long each node lives at most; it is replaced then.
	// +optional
	TTL *metav1.Duration `json:"ttl,omitempty"`
	// AllowedNamespaces make it a pool of the platform: pods of these namespaces may use it. Only the administrators'
	// namespaces may have such pools.
	// +optional
	AllowedNamespaces *metav1.LabelSelector `json:"allowedNamespaces,omitempty"`
}

// Autoscaling are the limits of a pool's size.
//
// +kubebuilder:validation:XValidation:rule="!has(self.min) || self.min <= self.max",message="min must not be greater than max"
type Autoscaling struct {
	Enabled bool `json:"enabled"`
	// +optional
	// +kubebuilder:validation:Minimum=0
	Min int32 `json:"min,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Max int32 `json:"max"`
	// IdleTTL is how long a node is without pods before it goes; 10 minutes if not given.
	// +optional
	IdleTTL *metav1.Duration `json:"idleTTL,omitempty"`
	// Driver is who decides; builtin if not given.
	// +optional
	Driver Driver `json:"driver,omitempty"`
}

// NodeTemplate is an OpenStackNode's spec without its flavor.
type NodeTemplate struct {
	// Labels are put on the pool's Nodes. Keys of Kubernetes and of this platform are refused.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// Taints are put on the pool's Nodes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Taints []corev1.Taint `json:"taints,omitempty"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	KeyPair string `json:"keyPair"`
	Policy  Policy `json:"policy"`
	// +optional
	// +kubebuilder:validation:MaxLength=255
	AvailabilityZone string `json:"availabilityZone,omitempty"`
	// +optional
	Image *ImageReference `json:"image,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Provider string `json:"provider,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Region string `json:"region,omitempty"`
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	SecurityGroups []string `json:"securityGroups,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	UserData *string `json:"userData,omitempty"`
	// +optional
	DrainTimeout *metav1.Duration `json:"drainTimeout,omitempty"`
	// +optional
	RootDisk *RootDisk `json:"rootDisk,omitempty"`
}

// OpenStackNodePoolStatus is what has become of the pool.
type OpenStackNodePoolStatus struct {
	Replicas      int32 `json:"replicas"`
	ReadyReplicas int32 `json:"readyReplicas"`
	// Selector finds the pool's OpenStackNodes.
	// +optional
	Selector string `json:"selector,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	LastScale *LastScale `json:"lastScale,omitempty"`
	// Backoff are the flavors that could not be had lately.
	// +optional
	// +listType=map
	// +listMapKey=flavor
	Backoff []FlavorBackoff `json:"backoff,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// LastScale is the last change of a pool's size.
type LastScale struct {
	At metav1.Time `json:"at"`
	// From and To are the sizes before and after.
	From int32 `json:"from"`
	To   int32 `json:"to"`
	// Reason says why, Pods how many pods waited.
	Reason string `json:"reason"`
	// +optional
	Pods int32 `json:"pods,omitempty"`
}

// FlavorBackoff is a flavor that is not tried before a time.
type FlavorBackoff struct {
	Flavor string      `json:"flavor"`
	Until  metav1.Time `json:"until"`
	// Failures counts how often in a row it could not be had.
	Failures int32  `json:"failures"`
	Message  string `json:"message,omitempty"`
}
