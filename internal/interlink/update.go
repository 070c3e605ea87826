// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// ExtensionUpdate says that PodUpdatePath takes, by POST, what a pod and its objects
// have become: a CreateRequest. What did not come with it stays as it is, and no pod
// is ever created. The marks of the pod (AnnotationRevision, AnnotationRefreshAt), in
// /create too, are kept and reported in PodDetail.
const ExtensionUpdate Extension = "update/v1"

// Annotations of the wire copy of a pod that say what its far end holds. They mean
// something to their sender only.
const (
	// AnnotationRevision names the state of the pod and of its objects that was sent last.
	AnnotationRevision = "offload.infn.it/revision"
	// AnnotationRefreshAt is when the pod's tokens have to be replaced, in RFC 3339.
	AnnotationRefreshAt = "offload.infn.it/refresh-at"
)

// RoutePodUpdate is PodUpdatePath as a pattern of a router.
const RoutePodUpdate = pathPods + "{uid}" + updateSuffix

const updateSuffix = "/update"

// PodUpdatePath is the route of updates of the pod with a UID at its origin.
func PodUpdatePath(uid string) string { return pathPods + url.PathEscape(uid) + updateSuffix }

// ParsePodUpdatePath is the reverse of PodUpdatePath; ok is false for other paths.
func ParsePodUpdatePath(path string) (uid string, ok bool) {
	rest, isPod := strings.CutPrefix(path, pathPods)
	uid, isUpdate := strings.CutSuffix(rest, updateSuffix)
	return uid, isPod && isUpdate && uid != "" && !strings.Contains(uid, "/")
}

// Update tells the far end what a pod and its objects have become. IsRefused tells
// whether an error is final for the pod; its objects were taken over all the same.
func (c *Client) Update(ctx context.Context, request *CreateRequest) error {
	_, err := c.call(ctx, "update pod", http.MethodPost, PodUpdatePath(string(request.Pod.UID)), request)
	return err
}
