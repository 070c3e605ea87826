// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/providertest"
)

// TestRequestsAreUpstreams holds what upstream's API server is sent: methods,
// paths, headers and the form of the bodies.
func TestRequestsAreUpstreams(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{AutoRun: true})
	h.up()
	h.add(newPod("a", func(p *corev1.Pod) {
		p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
		p.Annotations = map[string]string{interlink.AnnotationLocalContainers: "local"}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "local", Image: "busybox"})
	}))
	h.untilPhase("a", corev1.PodRunning)
	h.until("the job id is kept", func() bool { return h.pod("a").Annotations[interlink.AnnotationJobID] == "job-uid-a" })
	h.delete("a")
	h.untilGone("a")
	methods := map[string]string{
		interlink.PathCreate: http.MethodPost, interlink.PathStatus: http.MethodGet, interlink.PathDelete: http.MethodDelete,
	}
	for path, method := range methods {
		requests := h.far.Requests(path)
		require.NotEmpty(t, requests, path)
		for _, request := range requests {
			assert.Equal(t, method, request.Method, path)
			assert.Equal(t, "application/json", request.Header.Get("Content-Type"))
			assert.Regexp(t, `^[A-Z]\w+#\d+$`, request.Header.Get(interlink.HeaderSession))
			assert.NotContains(t, string(request.Body), "managedFields")
			assert.Contains(t, string(request.Body), `"offload.infn.it/cluster":"origin-1"`)
			assert.Contains(t, string(request.Body), `"offload.infn.it/node":"far-away"`)
		}
	}
	var create map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(h.far.Requests(interlink.PathCreate)[0].Body, &create))
	for _, key := range []string{"pod", "configmaps", "secrets", "projectedvolumesmaps", "jobscriptURL"} {
		assert.Contains(t, create, key)
	}
	assert.Len(t, create, 5)
	created := providertest.Decode[interlink.CreateRequest](t, h.far.Requests(interlink.PathCreate)[0])
	assert.Len(t, created.Pod.Spec.Containers, 1, "the local container is not offloaded")
	asked := providertest.Decode[[]corev1.Pod](t, h.far.Requests(interlink.PathStatus)[0])
	require.Len(t, asked, 1)
	assert.Len(t, asked[0].Spec.Containers, 2, "but it is in status queries")
	assert.Equal(t, "job-uid-a", asked[0].Annotations[interlink.AnnotationJobID])
	deleted := providertest.Decode[corev1.Pod](t, h.far.Requests(interlink.PathDelete)[0])
	assert.Equal(t, "uid-a", string(deleted.UID))
	assert.Equal(t, int64(30), *deleted.DeletionGracePeriodSeconds)
	assert.Len(t, h.far.Requests(interlink.PathDelete), 1)
}

func TestOneQueryForAllPods(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{AutoRun: true})
	h.up()
	for _, name := range []string{"a", "b", "c", "d"} {
		h.add(newPod(name))
	}
	h.until("one query for all", func() bool {
		for _, request := range h.far.Requests(interlink.PathStatus) {
			if len(providertest.Decode[[]corev1.Pod](t, request)) == 4 {
				return true
			}
		}
		return false
	})
}

func TestLogs(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.up()
	h.add(newPod("a"))
	h.untilPhase("a", corev1.PodRunning)
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	options := api.ContainerLogOpts{Tail: 7, LimitBytes: 9, Timestamps: true, Previous: true, SinceTime: since}
	stream, err := h.node.GetContainerLogs(t.Context(), "user", "a", "main", options)
	require.NoError(t, err)
	text, err := io.ReadAll(stream)
	require.NoError(t, err)
	require.NoError(t, stream.Close())
	assert.Equal(t, "log of a/main tail=7\n", string(text))
	asked := providertest.Decode[interlink.LogRequest](t, h.far.Requests(interlink.PathLogs)[0])
	assert.Equal(t, interlink.LogRequest{
		Namespace: "user", PodUID: "uid-a", PodName: "a", ContainerName: "main",
		Opts: interlink.LogOptions{Tail: 7, LimitBytes: 9, Timestamps: true, Previous: true, SinceTime: since},
	}, asked)

	_, err = h.node.GetContainerLogs(t.Context(), "user", "a", "other", api.ContainerLogOpts{})
	assert.True(t, errdefs.IsNotFound(err))
	_, err = h.node.GetContainerLogs(t.Context(), "user", "none", "main", api.ContainerLogOpts{})
	assert.True(t, errdefs.IsNotFound(err))
	h.far.Fail(interlink.PathLogs, providertest.Fault{Code: http.StatusBadRequest, Message: "container is waiting to start"})
	_, err = h.node.GetContainerLogs(t.Context(), "user", "a", "main", api.ContainerLogOpts{})
	assert.True(t, errdefs.IsInvalidInput(err))
	assert.ErrorContains(t, err, "container is waiting to start")
}

func TestFollowedLogEndsWithTheClient(t *testing.T) {
	t.Parallel()
	h := start(t, providertest.Options{Extensions: providertest.All(), AutoRun: true})
	h.up()
	h.add(newPod("a"))
	h.untilPhase("a", corev1.PodRunning)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := h.node.GetContainerLogs(ctx, "user", "a", "main", api.ContainerLogOpts{Follow: true})
	require.NoError(t, err)
	line := make([]byte, 8)
	_, err = io.ReadFull(stream, line)
	require.NoError(t, err)
	cancel()
	_, err = io.ReadAll(stream)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, stream.Close())
}
