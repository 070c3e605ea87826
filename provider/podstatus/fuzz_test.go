// SPDX-License-Identifier: Apache-2.0

package podstatus_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/podstatus"
)

// FuzzFrom feeds whatever a plugin might answer. The result is a status that the
// API server takes, and never a success that nobody reported.
func FuzzFrom(f *testing.F) {
	f.Add(`{"name":"p","containers":[]}`, `{"phase":"Running"}`, "Never")
	f.Add(`{"name":"p","containers":[{"name":"a","state":{"terminated":{"exitCode":1}}}]}`, `{}`, "Always")
	f.Add(`{"name":"p","initContainers":[{"name":"i","state":{"running":{}}}],"containers":null}`, `{"phase":"Pending"}`, "OnFailure")
	f.Add(`{"name":"p","containers":[{"name":"a"},{"name":"a","state":{"running":{},"waiting":{}}}],"detail":{"phase":"Succeeded"}}`, `{}`, "Never")
	f.Add(`{"detail":{"phase":"odd","podIPs":[{"ip":""}],"conditions":[{"type":"Ready"},{"type":"Ready","status":"True"}]}}`, `{}`, "")
	f.Fuzz(func(t *testing.T, report, before, policy string) {
		var wire interlink.PodStatus
		var previous corev1.PodStatus
		if json.Unmarshal([]byte(report), &wire) != nil || json.Unmarshal([]byte(before), &previous) != nil {
			t.Skip()
		}
		p := pod(corev1.RestartPolicy(policy), []string{"i", "j"}, "a", "b")
		in := podstatus.Input{Pod: p, Previous: previous, Wire: wire, Now: at(1)}
		for _, status := range []corev1.PodStatus{
			podstatus.From(in), podstatus.Ended(in, true), podstatus.Waiting(p, previous, at(1), "r", "m"),
			podstatus.Failed(p, previous, at(1), podstatus.Outcome{Reason: "r"}),
		} {
			require.Len(t, status.ContainerStatuses, 2)
			require.Len(t, status.InitContainerStatuses, 2)
			for _, container := range append(status.ContainerStatuses, status.InitContainerStatuses...) {
				set := 0
				for _, there := range []bool{container.State.Waiting != nil, container.State.Running != nil, container.State.Terminated != nil} {
					if there {
						set++
					}
				}
				require.Equal(t, 1, set, "container %s has %d states", container.Name, set)
			}
			if len(status.PodIPs) > 0 {
				require.Equal(t, status.PodIPs[0].IP, status.PodIP)
			}
		}
		status := podstatus.From(in)
		if status.Phase == corev1.PodSucceeded && previous.Phase != corev1.PodSucceeded && wire.Detail == nil {
			for _, container := range status.ContainerStatuses {
				require.NotNil(t, container.State.Terminated)
				require.Zero(t, container.State.Terminated.ExitCode)
			}
		}
	})
}
