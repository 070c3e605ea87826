// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Routes of the protocol. A client sends exactly the method that the protocol
// documents; a server accepts GET, POST, PUT and DELETE on each of them.
const (
	PathPing        = "/pinglink"
	PathCreate      = "/create"
	PathStatus      = "/status"
	PathDelete      = "/delete"
	PathLogs        = "/getLogs"
	PathUpdateCache = "/updateCache"
)

// HeaderSession carries the correlation id of a request through all hops.
const HeaderSession = "InterLink-Http-Session"

// AnnotationJobID holds, on an origin pod, the id that the far end gave it. Its
// presence means that the far end accepted the pod once.
const AnnotationJobID = "JobID"

// Annotations naming containers that stay in the origin cluster: they are not
// part of the pod in /create, but are in the pods of /status and /delete.
const (
	AnnotationLocalContainers     = "interlink.eu/disable-offload-containers"
	AnnotationLocalInitContainers = "interlink.eu/disable-offload-init-containers"
)

// CreateRequest asks the API to run one pod (upstream's PodCreateRequests).
type CreateRequest struct {
	Pod corev1.Pod `json:"pod"`
	// ConfigMaps are the full objects that the pod references; duplicates may occur.
	ConfigMaps []corev1.ConfigMap `json:"configmaps"`
	// Secrets are the full objects that the pod references; duplicates may occur.
	Secrets []corev1.Secret `json:"secrets"`
	// ProjectedVolumes holds one pseudo-ConfigMap per projected or downwardAPI
	// volume: its name is the volume's, its data maps file path to content.
	ProjectedVolumes []corev1.ConfigMap `json:"projectedvolumesmaps"`
	// JobScriptURL names a job script builder; empty for Kubernetes plugins.
	JobScriptURL string `json:"jobscriptURL"`
	// Claims is an extension: what the origin knows of the pod's claims.
	Claims []Claim `json:"claims,omitempty"`
}

// PluginPod is one pod as the API hands it to a plugin (upstream's RetrievedPodData).
type PluginPod struct {
	Pod corev1.Pod `json:"pod"`
	// Containers lists the init containers first, then the containers, in spec order.
	Containers []PluginContainer `json:"container"`
	JobConfig  JobConfig         `json:"jobConfig"`
	JobScript  string            `json:"jobScript,omitempty"`
	// Referenced is an extension: the objects of the request that no container
	// mounts (used by env, imagePullSecrets or an unmounted volume).
	Referenced *ReferencedObjects `json:"referenced,omitempty"`
}

// PluginContainer holds the objects that one container mounts (upstream's RetrievedContainer).
type PluginContainer struct {
	Name             string             `json:"name"`
	ConfigMaps       []corev1.ConfigMap `json:"configMaps"`
	ProjectedVolumes []corev1.ConfigMap `json:"projectedvolumemaps"`
	Secrets          []corev1.Secret    `json:"secrets"`
	// EmptyDirs is always null since interLink 0.4.
	EmptyDirs []string `json:"emptyDirs"`
}

// JobConfig configures job scripts of HPC plugins (upstream's ScriptBuildConfig);
// a Kubernetes plugin ignores it.
type JobConfig struct {
	SingularityHub   SingularityHub   `json:"SingularityHubProxy"`
	ApptainerOptions ApptainerOptions `json:"ApptainerOptions"`
	VolumesOptions   VolumesOptions   `json:"Volumes"`
}

// SingularityHub names a proxy for Singularity images.
type SingularityHub struct {
	Server               string `json:"server"`
	MasterToken          string `json:"master_token"`
	CacheValiditySeconds int    `json:"cache_validity_seconds"`
}

// ApptainerOptions are the flags a job script passes to Apptainer.
type ApptainerOptions struct {
	Executable    string `json:"executable"`
	Fakeroot      bool   `json:"fakeroot"`
	ContainAll    bool   `json:"containall"`
	FuseMode      string `json:"fuseMode"`
	NoInit        bool   `json:"noInit"`
	NoHome        bool   `json:"noHome"`
	NoPrivs       bool   `json:"noPrivs"`
	NvidiaSupport bool   `json:"nvidiaSupport"`
	Cleanenv      bool   `json:"cleanenv"`
	Unsquash      bool   `json:"unsquash"`
}

// VolumesOptions are the directories that a job script uses.
type VolumesOptions struct {
	ScratchArea                 string   `json:"scratch_area"`
	ApptainerCacheDir           string   `json:"apptainer_cachedir"`
	ImageDir                    string   `json:"image_dir"`
	AdditionalDirectoriesInPath []string `json:"additional_directories_in_path"`
	FuseSleepSeconds            int      `json:"fuse_sleep_seconds"`
}

// Created answers /create (upstream's CreateStruct). PodUID MUST equal the
// request's pod UID; PodJID is stable and not empty.
type Created struct {
	PodUID string `json:"PodUID"`
	PodJID string `json:"PodJID"`
}

// PodStatus is one element of the /status answer.
type PodStatus struct {
	Name      string `json:"name"`
	UID       string `json:"UID"`
	Namespace string `json:"namespace"`
	JobID     string `json:"JID"`
	// Containers has one entry per offloaded container of the spec, always.
	Containers []corev1.ContainerStatus `json:"containers"`
	// InitContainers has one entry per offloaded init container, in spec order.
	InitContainers []corev1.ContainerStatus `json:"initContainers"`

	// Missing is an extension: the far end does not hold the pod; see Absent.
	Missing bool `json:"missing,omitempty"`
	// Detail is an extension, present in status streams only.
	Detail *PodDetail `json:"detail,omitempty"`
}

// LogRequest asks for the log of one container (upstream's LogStruct).
type LogRequest struct {
	Namespace     string     `json:"Namespace"`
	PodUID        string     `json:"PodUID"`
	PodName       string     `json:"PodName"`
	ContainerName string     `json:"ContainerName"`
	Opts          LogOptions `json:"Opts"`
}

// LogOptions select a part of a log. Zero values mean "unset", so tailLines=0
// cannot be expressed.
type LogOptions struct {
	Tail         int       `json:"Tail"`
	LimitBytes   int       `json:"Bytes"`
	Timestamps   bool      `json:"Timestamps"`
	Follow       bool      `json:"Follow"`
	Previous     bool      `json:"Previous"`
	SinceSeconds int       `json:"SinceSeconds"`
	SinceTime    time.Time `json:"SinceTime"`
}

// PingResponse is a plugin's answer to the health probe; every field is optional.
type PingResponse struct {
	Status    string         `json:"status,omitempty"`
	Resources *PingResources `json:"resources,omitempty"`
	// Taints: nil leaves the node's taints as they are, an empty list clears them.
	Taints *[]PingTaint `json:"taints,omitempty"`
	// Labels is an extension: labels for the virtual node; see ExtensionNodeLabels.
	Labels map[string]string `json:"labels,omitempty"`

	// PluginExtensions is what the plugin can do beyond upstream. Extensions is
	// what the API and the plugin can do together; only the API writes it.
	PluginExtensions []Extension `json:"pluginExtensions,omitempty"`
	Extensions       []Extension `json:"extensions,omitempty"`
}

// PingResources are quantities that replace the virtual node's capacity and
// allocatable. An empty string leaves the value as it is; "0" is applied.
type PingResources struct {
	CPU          string            `json:"cpu,omitempty"`
	Memory       string            `json:"memory,omitempty"`
	Pods         string            `json:"pods,omitempty"`
	Accelerators []PingAccelerator `json:"accelerators,omitempty"`
}

// PingAccelerator is one extended resource, for instance nvidia.com/gpu.
type PingAccelerator struct {
	ResourceType string `json:"resourceType"`
	Available    string `json:"available"`
}

// PingTaint is a taint for the virtual node.
type PingTaint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}
