// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"context"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
)

// RouteEphemeral is EphemeralPath as a pattern of a router.
const RouteEphemeral = pathPods + "{uid}/ephemeralcontainers"

// EphemeralPath is the route that adds ephemeral containers to the pod with a UID at
// its origin: POST, body the origin's pod with those that are to be added, any
// answer of 200. One that is there already is not added again. HeaderRefusal marks
// errors that no retry can change.
func EphemeralPath(uid string) string {
	return pathPods + url.PathEscape(uid) + "/ephemeralcontainers"
}

// AddEphemeral asks the far end to add the ephemeral containers of the pod's spec,
// which MUST offer ExtensionEphemeral. IsRefused tells whether an error is final.
func (c *Client) AddEphemeral(ctx context.Context, pod *corev1.Pod) error {
	_, err := c.call(ctx, "add ephemeral containers", http.MethodPost, EphemeralPath(string(pod.UID)), pod)
	return err
}
