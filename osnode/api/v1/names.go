// SPDX-License-Identifier: Apache-2.0

package v1

// Finalizer keeps an OpenStackNode until its virtual machine is gone. Its form is older
// than the rule that finalizers have a domain, and known to users.
const Finalizer = "openstacknode/finalizer"

// Labels of an OpenStackNode, and of its Node. Admission writes the owner's; users
// cannot change them. On a Node they are for people: its kubelet can change them.
const (
	LabelUserID      = "osn.infn.it/userid"
	LabelUserName    = "osn.infn.it/username"
	LabelProjectID   = "osn.infn.it/projectid"
	LabelProjectName = "osn.infn.it/projectname"
	// LabelSecret names the Secret of the bootstrap token, also when it is long gone.
	LabelSecret = "SECRET"
	// LabelPool is the OpenStackNodePool that made the node.
	LabelPool = "osn.infn.it/nodepool"
	// LabelPolicy is the node's policy, on the Node.
	LabelPolicy = "osn.infn.it/policy"
	// LabelGPU is the kind of GPU that the flavor has, on the Node.
	LabelGPU = "osn.infn.it/gpu"
)

// Labels of a Node that its own kubelet cannot change, because of their suffix. The
// first is the only one that decides where pods run.
const (
	NodeLabelPool      = "osn.infn.it.node-restriction.kubernetes.io/pool"
	NodeLabelUserID    = "osn.infn.it.node-restriction.kubernetes.io/userid"
	NodeLabelProjectID = "osn.infn.it.node-restriction.kubernetes.io/projectid"
	NodeLabelPolicy    = "osn.infn.it.node-restriction.kubernetes.io/policy"
	// NodeLabelOSNode is the UID of the OpenStackNode.
	NodeLabelOSNode = "osn.infn.it.node-restriction.kubernetes.io/osnode"
	// NodeLabelNamespace and NodeLabelName say which OpenStackNode it is.
	NodeLabelNamespace = "osn.infn.it.node-restriction.kubernetes.io/namespace"
	NodeLabelName      = "osn.infn.it.node-restriction.kubernetes.io/name"
)

// Taints of a Node.
const (
	// TaintPool keeps away the pods of everybody else; its value is that of NodeLabelPool.
	TaintPool = "osn.infn.it/pool"
	// TaintNotJoined stays until the node has been seen Ready.
	TaintNotJoined = "osn.infn.it/not-joined"
	// TaintDeleting is put on a node that is being drained.
	TaintDeleting = "osn.infn.it/deleting"
)

// Annotations that people put on an OpenStackNode.
const (
	// AnnotationAbandon, "true", lets an OpenStackNode go although its virtual machine
	// cannot be deleted. Only administrators may set it.
	AnnotationAbandon = "osn.infn.it/abandon"
	// AnnotationRetry makes a Failed node try again, at each new value.
	AnnotationRetry = "osn.infn.it/retry"
	// AnnotationForceDelete, "true", deletes without draining.
	AnnotationForceDelete = "osn.infn.it/force-delete"
	// AnnotationDoNotDisrupt, "true", keeps a pool from removing the node.
	AnnotationDoNotDisrupt = "osn.infn.it/do-not-disrupt"
)

// Keys of a server's metadata in Nova, which takes no slash in them
// (nova/api/validation/parameter_types.py). A server is ours only if cluster, UID and
// project are all right.
const (
	MetaUID       = "osn.infn.it:uid"
	MetaCluster   = "osn.infn.it:cluster"
	MetaNamespace = "osn.infn.it:namespace"
	MetaName      = "osn.infn.it:name"
	MetaNodeID    = "osn.infn.it:nodeid"
	MetaOwner     = "osn.infn.it:owner"
)
