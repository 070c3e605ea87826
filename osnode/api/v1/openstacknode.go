// SPDX-License-Identifier: Apache-2.0

package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// OpenStackNode is a virtual machine in the OpenStack project of its owner that joins the cluster as a node.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=openstacknodes,shortName=osn,scope=Namespaced
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Owner",type=string,JSONPath=`.metadata.labels.osn\.infn\.it/username`
// +kubebuilder:printcolumn:name="Node Id",type=string,JSONPath=`.status.nodeid`
// +kubebuilder:printcolumn:name="Policy",type=string,JSONPath=`.spec.policy`
// +kubebuilder:printcolumn:name="Provider",type=string,JSONPath=`.status.provider`
// +kubebuilder:printcolumn:name="VM Flavor",type=string,JSONPath=`.spec.flavor`,priority=1
// +kubebuilder:printcolumn:name="VM Status",type=string,JSONPath=`.status.server.status`,priority=1
// +kubebuilder:printcolumn:name="VM IPv4",type=string,JSONPath=`.status.server.ipv4`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 49",message="the name must have at most 49 characters: the node's name is it with a time stamp, and also a label"
// +kubebuilder:validation:XValidation:rule="!self.metadata.name.contains('.')",message="the name must not contain a dot: it is also the name of the virtual machine"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.server) || !has(oldSelf.status.server.id) || self.spec.flavor == oldSelf.spec.flavor",message="the flavor cannot be changed while there is a virtual machine: delete the node and create another one"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.server) || !has(oldSelf.status.server.id) || self.spec.keyPair == oldSelf.spec.keyPair",message="the key pair cannot be changed while there is a virtual machine: delete the node and create another one"
type OpenStackNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec   OpenStackNodeSpec   `json:"spec"`
	Status OpenStackNodeStatus `json:"status,omitempty"`
}

// OpenStackNodeList is a list of OpenStackNodes.
//
// +kubebuilder:object:root=true
type OpenStackNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []OpenStackNode `json:"items"`
}

// Policy says whose pods may run on a node.
//
// +kubebuilder:validation:Enum=shared;private
type Policy string

// The policies.
const (
	PolicyShared  Policy = "shared"
	PolicyPrivate Policy = "private"
)

// RepairPolicy says what happens when the virtual machine of a node is gone or broken.
//
// +kubebuilder:validation:Enum=None;Recreate
type RepairPolicy string

// The repair policies.
const (
	RepairNone     RepairPolicy = "None"
	RepairRecreate RepairPolicy = "Recreate"
)

// OpenStackNodeSpec says which virtual machine is wanted. What is not given comes from the provider's configuration
// when the node is first seen, and is fixed from then on.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.availabilityZone) || size(oldSelf.availabilityZone) == 0 || (has(self.availabilityZone) && self.availabilityZone == oldSelf.availabilityZone)",message="availabilityZone cannot be changed: delete the node and create another one"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.provider) || size(oldSelf.provider) == 0 || (has(self.provider) && self.provider == oldSelf.provider)",message="provider cannot be changed: delete the node and create another one"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.region) || size(oldSelf.region) == 0 || (has(self.region) && self.region == oldSelf.region)",message="region cannot be changed: delete the node and create another one"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.image) || (has(self.image) && self.image == oldSelf.image)",message="image cannot be changed: delete the node and create another one"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.securityGroups) || (has(self.securityGroups) && self.securityGroups == oldSelf.securityGroups)",message="securityGroups cannot be changed: delete the node and create another one"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.userData) || (has(self.userData) && self.userData == oldSelf.userData)",message="userData cannot be changed: delete the node and create another one"
type OpenStackNodeSpec struct {
	// AvailabilityZone is Nova's availability zone.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	AvailabilityZone string `json:"availabilityZone,omitempty"`
	// Flavor is the name of the virtual machine's flavor. It can be changed only while no machine exists.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Flavor string `json:"flavor"`
	// Image is what the virtual machine boots from.
	// +optional
	Image *ImageReference `json:"image,omitempty"`
	// KeyPair is the name of the owner's SSH key pair in OpenStack. It can be changed only while no machine exists.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	KeyPair string `json:"keyPair"`
	// Policy says whose pods may run on the node: the owner's alone, or the whole project's.
	Policy Policy `json:"policy"`
	// Provider is the OpenStack cloud, by its id.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Provider string `json:"provider,omitempty"`
	// Region is the cloud's region.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Region string `json:"region,omitempty"`
	// SecurityGroups are names, or ids, of the project's security groups.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=255
	SecurityGroups []string `json:"securityGroups,omitempty"`
	// UserData is for cloud-init, in addition to what the platform does: a cloud-config or a script.
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	UserData *string `json:"userData,omitempty"`

	// DrainTimeout is how long pods may take to leave the node before it is deleted; 10 minutes if not given.
	// +optional
	DrainTimeout *metav1.Duration `json:"drainTimeout,omitempty"`
	// TTL is how long the node lives at most.
	// +optional
	TTL *metav1.Duration `json:"ttl,omitempty"`
	// IdleTTL deletes the node when it had no pods, but those of DaemonSets, for that long.
	// +optional
	IdleTTL *metav1.Duration `json:"idleTTL,omitempty"`
	// RepairPolicy says what happens when the virtual machine is gone or broken; None if not given.
	// +optional
	RepairPolicy RepairPolicy `json:"repairPolicy,omitempty"`
	// RootDisk makes the root disk a volume instead of what the flavor has.
	// +optional
	RootDisk *RootDisk `json:"rootDisk,omitempty"`
}

// ImageReference names an image, by id or by name; the id wins.
//
// +kubebuilder:validation:XValidation:rule="!has(self.id) || !has(self.name) || size(self.id) == 0 || size(self.name) == 0",message="give the image's id or its name, not both"
type ImageReference struct {
	// +optional
	// +kubebuilder:validation:MaxLength=64
	ID *string `json:"id,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name,omitempty"`
}

// RootDisk is a volume made from the image.
type RootDisk struct {
	// SizeGiB is the volume's size in GiB.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16384
	SizeGiB int32 `json:"sizeGiB"`
	// VolumeType is Cinder's volume type.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	VolumeType string `json:"volumeType,omitempty"`
}

// Phase sums the conditions up in a word. Nothing decides by it.
type Phase string

// The phases.
const (
	PhasePending  Phase = "Pending"
	PhaseCreating Phase = "Creating"
	PhaseJoining  Phase = "Joining"
	PhaseRunning  Phase = "Running"
	PhaseNotReady Phase = "NotReady"
	PhaseStopped  Phase = "Stopped"
	PhaseFailed   Phase = "Failed"
	PhaseDeleting Phase = "Deleting"
)

// OpenStackNodeStatus is what has become of the node.
type OpenStackNodeStatus struct {
	// Created is when the node was first Running.
	// +optional
	Created *metav1.Time `json:"created,omitempty"`
	// Description says in a sentence how it is, and what is missing.
	// +optional
	Description string `json:"description,omitempty"`
	// NodeID is the name of the Node; it never changes for one virtual machine.
	// +optional
	NodeID string `json:"nodeid,omitempty"`
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// Provider is the name of the cloud as people know it.
	// +optional
	Provider string `json:"provider,omitempty"`
	// Server is the virtual machine as OpenStack describes it.
	// +optional
	Server *ServerStatus `json:"server,omitempty"`
	// Updated is when anything of the status last changed.
	// +optional
	Updated *metav1.Time `json:"updated,omitempty"`

	// ObservedGeneration is the generation of the spec that the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Resolved are the ids that the names in the spec stand for.
	// +optional
	Resolved *Resolved `json:"resolved,omitempty"`
	// Intent is written before a virtual machine is asked for.
	// +optional
	Intent *Intent `json:"intent,omitempty"`
	// LastError is the last refusal of OpenStack, or of this platform.
	// +optional
	LastError *LastError `json:"lastError,omitempty"`
	// ProviderID is the Node's, openstack://region/id.
	// +optional
	ProviderID string `json:"providerID,omitempty"`
	// Addresses are those that Neutron gave to the virtual machine.
	// +optional
	// +listType=atomic
	Addresses []corev1.NodeAddress `json:"addresses,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ServerStatus is a virtual machine as Nova describes it.
type ServerStatus struct {
	// +optional
	Created *metav1.Time `json:"created,omitempty"`
	// +optional
	ID string `json:"id,omitempty"`
	// +optional
	IPv4 string `json:"ipv4,omitempty"`
	// +optional
	Name string `json:"name,omitempty"`
	// +optional
	Status string `json:"status,omitempty"`
	// +optional
	Updated *metav1.Time `json:"updated,omitempty"`
}

// Resolved are OpenStack's ids, and what the flavor has.
type Resolved struct {
	FlavorID string `json:"flavorId,omitempty"`
	ImageID  string `json:"imageId,omitempty"`
	// +listType=atomic
	NetworkIDs []string `json:"networkIds,omitempty"`
	// +listType=atomic
	SecurityGroupIDs []string `json:"securityGroupIds,omitempty"`
	// VCPUs, MemoryMiB and GPUs are what the flavor has.
	VCPUs     int32 `json:"vcpus,omitempty"`
	MemoryMiB int32 `json:"memoryMib,omitempty"`
	GPUs      int32 `json:"gpus,omitempty"`
	// GPU is the kind of the GPUs.
	GPU string `json:"gpu,omitempty"`
}

// Intent says that a virtual machine may have been asked for.
type Intent struct {
	At metav1.MicroTime `json:"at"`
	// Attempt counts the virtual machines that were asked for.
	Attempt int32 `json:"attempt"`
}

// LastError is a refusal with its time.
type LastError struct {
	// Code is the class of the error, as in the conditions' reasons.
	Code    string      `json:"code"`
	Message string      `json:"message"`
	At      metav1.Time `json:"at"`
	// Count is how often it happened in a row.
	// +optional
	Count int32 `json:"count,omitempty"`
}
