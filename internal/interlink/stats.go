// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PathStats is the route that tells what pods use: GET, no body, query parameters
// QueryCluster and QueryNode, answer StatsResponse.
const PathStats = "/caas/v1/stats"

// StatsResponse is what the pods of one virtual node use.
type StatsResponse struct {
	// Available is false when the target cluster measures nothing, or does not tell.
	Available bool `json:"available"`
	// Pods are those that were measured; new ones and ones that ended are not.
	Pods []PodStats `json:"pods"`
}

// PodStats is what one pod used on the average of Window, which ended at Time.
type PodStats struct {
	// UID is the pod's UID at its origin.
	UID        string           `json:"uid"`
	Time       metav1.MicroTime `json:"time"`
	Window     metav1.Duration  `json:"window"`
	Containers []ContainerStats `json:"containers"`
}

// ContainerStats is what one container used.
type ContainerStats struct {
	Name string `json:"name"`
	// CPUNanoCores is CPU time in billionths of a second per second.
	CPUNanoCores uint64 `json:"cpuNanoCores"`
	// MemoryBytes is the working set.
	MemoryBytes uint64 `json:"memoryBytes"`
}

// Stats asks what the pods of a virtual node use; the far end MUST offer ExtensionStats.
func (c *Client) Stats(ctx context.Context, request WatchRequest) (StatsResponse, error) {
	var answer StatsResponse
	query := url.Values{QueryCluster: {request.Cluster}, QueryNode: {request.Node}}
	body, err := c.call(ctx, "pod figures", http.MethodGet, PathStats+"?"+query.Encode(), nil)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, fmt.Errorf("pod figures: decode answer: %w", err)
	}
	return answer, nil
}
