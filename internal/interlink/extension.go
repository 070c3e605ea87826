// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Extension names something that this project's ends can do beyond upstream.
type Extension string

const (
	// ExtensionStatusStream says that GET PathWatch streams StatusEvents.
	ExtensionStatusStream Extension = "status-stream/v1"
	// ExtensionReferences says that /create may carry env references as they are, with
	// the referenced ConfigMaps, Secrets and image pull secrets beside the mounted ones.
	ExtensionReferences Extension = "references/v1"
	// ExtensionIdempotent says that /create of a known UID answers the same job id
	// and writes nothing; /delete of an unknown UID succeeds.
	ExtensionIdempotent Extension = "idempotent/v1"
	// ExtensionExec says that PodStreamPath with StreamExec can be upgraded.
	ExtensionExec Extension = "exec/v1"
	// ExtensionAttach is ExtensionExec for StreamAttach.
	ExtensionAttach Extension = "attach/v1"
	// ExtensionPortForward is ExtensionExec for StreamPortForward.
	ExtensionPortForward Extension = "port-forward/v1"
	// ExtensionEvents says that the status stream tells the Events of pods to readers
	// that ask for them with QueryEvents.
	ExtensionEvents Extension = "events/v1"
	// ExtensionStats says that GET PathStats answers a StatsResponse.
	ExtensionStats Extension = "stats/v1"
	// ExtensionClaims says that /create may carry what the origin knows of the pod's claims.
	ExtensionClaims Extension = "claims/v1"
	// ExtensionEphemeral says that POST to EphemeralPath adds ephemeral containers.
	ExtensionEphemeral Extension = "ephemeral/v1"
	// ExtensionNodeLabels says that PingResponse.Labels, here and in the status stream, are
	// all the labels that the far end has for the virtual node.
	ExtensionNodeLabels Extension = "node-labels/v1"
)

// Has reports whether the answer offers e end to end.
func (p PingResponse) Has(e Extension) bool { return slices.Contains(p.Extensions, e) }

// PathWatch is the route of the status stream: GET, no body, query parameters
// QueryCluster and QueryNode (and QueryEvents=true), answer ContentTypeStream: one StatusEvent per line.
const (
	PathWatch         = "/caas/v1/statuses"
	QueryCluster      = "cluster"
	QueryNode         = "node"
	QueryEvents       = "events"
	ContentTypeStream = "application/x-ndjson"
)

// HeaderClient carries, from the API to its plugin, the authenticated identity
// of the virtual kubelet. The API drops any value that a client sent.
const HeaderClient = "InterLink-Client"

// HeaderProbe marks, with the value "true", a ping that the API sends for its own
// readiness and for no client. Far ends MAY answer it for all clients together.
const HeaderProbe = "InterLink-Probe"

// Annotations that the virtual kubelet adds to the wire copy of a pod, so that
// the far end can tell apart the pods of several clusters and virtual nodes.
const (
	AnnotationOriginCluster = "offload.infn.it/cluster"
	AnnotationOriginNode    = "offload.infn.it/node"
)

// EventType says what a StatusEvent carries.
type EventType string

const (
	// EventStatus says that Status is the whole current status of one pod.
	EventStatus EventType = "STATUS"
	// EventGone says that the far end holds nothing more of the pod; Status is its last one.
	EventGone EventType = "GONE"
	// EventSynced says that every pod of this cluster and node that the far end holds has been sent once.
	EventSynced EventType = "SYNCED"
	// EventHeartbeat says that nothing happened; sent at least every HeartbeatSeconds.
	EventHeartbeat EventType = "HEARTBEAT"
	// EventNode says that Node is what a ping would answer now.
	EventNode EventType = "NODE"
	// EventPodEvent says that Event is an Event about one pod. Only readers that asked
	// for them get any.
	EventPodEvent EventType = "EVENT"
)

// HeartbeatSeconds is the longest silence of a status stream; a reader that
// hears nothing for three times as long reconnects.
const HeartbeatSeconds = 10

// StatusEvent is one line of the status stream. A new stream starts with the
// current state of every pod, then EventSynced, then changes; changes of one pod
// may be merged, the last one always arrives.
type StatusEvent struct {
	Type   EventType     `json:"type"`
	Status *PodStatus    `json:"status,omitempty"`
	Node   *PingResponse `json:"node,omitempty"`
	Event  *PodEvent     `json:"event,omitempty"`
}

// PodDetail is what a pod's status holds beyond its containers. With it, the
// container statuses beside it are the remote ones unchanged; without it they
// are the conservative form that upstream's virtual kubelet needs.
type PodDetail struct {
	Phase      corev1.PodPhase       `json:"phase"`
	Reason     string                `json:"reason,omitempty"`
	Message    string                `json:"message,omitempty"`
	Conditions []corev1.PodCondition `json:"conditions,omitempty"`
	HostIP     string                `json:"hostIP,omitempty"`
	HostIPs    []corev1.HostIP       `json:"hostIPs,omitempty"`
	PodIP      string                `json:"podIP,omitempty"`
	PodIPs     []corev1.PodIP        `json:"podIPs,omitempty"`
	StartTime  *metav1.Time          `json:"startTime,omitempty"`
	QOSClass   corev1.PodQOSClass    `json:"qosClass,omitempty"`
	// RemoteNamespace, RemoteName and RemoteNode say where the pod really is.
	RemoteNamespace string `json:"remoteNamespace,omitempty"`
	RemoteName      string `json:"remoteName,omitempty"`
	RemoteNode      string `json:"remoteNode,omitempty"`
	// Deleting is true once the remote pod has a deletion timestamp.
	Deleting bool `json:"deleting,omitempty"`
	// Incomplete is true while the remote pod waits for objects that only a create
	// can bring: if that create was cut off, it has to be sent again.
	Incomplete bool `json:"incomplete,omitempty"`
	// EphemeralContainers are the statuses of ephemeral containers.
	EphemeralContainers []corev1.ContainerStatus `json:"ephemeralContainers,omitempty"`
	// OriginCluster and OriginNode repeat the annotations of the created pod.
	OriginCluster string `json:"originCluster,omitempty"`
	OriginNode    string `json:"originNode,omitempty"`
	// Revision and RefreshAt repeat the marks that came with the pod or its last update.
	Revision  string       `json:"revision,omitempty"`
	RefreshAt *metav1.Time `json:"refreshAt,omitempty"`
}

// ReferencedObjects are objects that a pod references without mounting them.
type ReferencedObjects struct {
	ConfigMaps []corev1.ConfigMap `json:"configMaps,omitempty"`
	Secrets    []corev1.Secret    `json:"secrets,omitempty"`
	// ProjectedVolumes are those of volumes that no container mounts.
	ProjectedVolumes []corev1.ConfigMap `json:"projectedVolumes,omitempty"`
	// Claims are facts, see ExtensionClaims.
	Claims []Claim `json:"claims,omitempty"`
}

// Claim is what an origin tells of a PersistentVolumeClaim that a pod uses.
type Claim struct {
	Name         string                              `json:"name"`
	StorageClass string                              `json:"storageClass,omitempty"`
	AccessModes  []corev1.PersistentVolumeAccessMode `json:"accessModes,omitempty"`
	VolumeMode   corev1.PersistentVolumeMode         `json:"volumeMode,omitempty"`
	// Size is what the claim requests.
	Size *resource.Quantity `json:"size,omitempty"`
}

// Reasons that a plugin of this project gives for every container of a pod that
// it does not hold, because a pod that is left out of an answer counts as
// unchanged for upstream's virtual kubelet.
const (
	// ReasonPodLost: the far end accepted the pod once and holds it no more.
	ReasonPodLost = "RemotePodLost"
	// ReasonPodNotCreated: the far end never held the pod.
	ReasonPodNotCreated = "PodNotCreated"
)

// Absent reports whether the answer only says that the far end does not hold the pod.
func (s *PodStatus) Absent() bool {
	return s.Missing || len(s.Containers) > 0 && !slices.ContainsFunc(s.Containers, func(status corev1.ContainerStatus) bool {
		switch state := status.State; {
		case state.Terminated != nil:
			return state.Terminated.Reason != ReasonPodLost
		case state.Waiting != nil:
			return state.Waiting.Reason != ReasonPodNotCreated
		default:
			return true
		}
	})
}
