// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"net/url"
	"strings"
)

// StreamKind is what a stream into a pod is for.
type StreamKind string

// The kinds of streams into a pod. Their names are the subresources of a pod.
const (
	StreamExec        StreamKind = "exec"
	StreamAttach      StreamKind = "attach"
	StreamPortForward StreamKind = "portforward"
)

// StreamKinds are all kinds.
func StreamKinds() []StreamKind { return []StreamKind{StreamExec, StreamAttach, StreamPortForward} }

// Extension is what a far end offers that carries streams of this kind.
func (k StreamKind) Extension() Extension {
	switch k {
	case StreamExec:
		return ExtensionExec
	case StreamAttach:
		return ExtensionAttach
	case StreamPortForward:
		return ExtensionPortForward
	default:
		return ""
	}
}

// pathPods is what the routes of streams begin with: pathPods UID / kind. A request
// upgrades to Kubernetes' own protocols, by GET to WebSocket or by POST to SPDY;
// its query is that of the pod's subresource.
const pathPods = "/caas/v1/pods/"

// RoutePodStream is PodStreamPath as a pattern of a router.
const RoutePodStream = pathPods + "{uid}/{kind:exec|attach|portforward}"

// PodStreamPath is the route of a stream into the pod with a UID at its origin.
func PodStreamPath(uid string, kind StreamKind) string {
	return pathPods + url.PathEscape(uid) + "/" + string(kind)
}

// ParsePodStreamPath is the reverse of PodStreamPath; ok is false for other paths.
func ParsePodStreamPath(path string) (uid string, kind StreamKind, ok bool) {
	rest, found := strings.CutPrefix(path, pathPods)
	if !found {
		return "", "", false
	}
	uid, name, _ := strings.Cut(rest, "/")
	kind = StreamKind(name)
	return uid, kind, uid != "" && kind.Extension() != ""
}

// Query parameters of exec and attach, named as those of the pod's subresources.
const (
	QueryContainer = "container"
	QueryCommand   = "command"
	QueryStdin     = "stdin"
	QueryStdout    = "stdout"
	QueryStderr    = "stderr"
	QueryTTY       = "tty"
)
