// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// GetContainerLogs streams the log of one container from the far end. The pod is
// looked up in the cache; the stream ends with ctx.
func (p *Provider) GetContainerLogs(ctx context.Context, namespace, name, container string, options api.ContainerLogOpts) (io.ReadCloser, error) {
	pod, err := p.GetPod(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	if !hasContainer(pod, container) {
		return nil, errdefs.NotFound(fmt.Sprintf("pod %s/%s has no container %q", namespace, name, container))
	}
	stream, err := p.cfg.FarEnd.Logs(ctx, interlink.LogRequest{
		Namespace:     namespace,
		PodUID:        string(pod.UID),
		PodName:       name,
		ContainerName: container,
		Opts: interlink.LogOptions{
			Tail:         options.Tail,
			LimitBytes:   options.LimitBytes,
			Timestamps:   options.Timestamps,
			Follow:       options.Follow,
			Previous:     options.Previous,
			SinceSeconds: options.SinceSeconds,
			SinceTime:    options.SinceTime,
		},
	})
	if err != nil {
		return nil, kubeletError(err)
	}
	return stream, nil
}

// kubeletError gives an error of the far end the kind that the library turns into
// a status code. The library does not look through wrapped errors, so its own
// kind has to be the outermost.
func kubeletError(err error) error {
	var status *interlink.StatusError
	if !errors.As(err, &status) {
		return err
	}
	switch status.Code {
	case http.StatusNotFound:
		return errdefs.AsNotFound(err)
	case http.StatusBadRequest:
		return errdefs.AsInvalidInput(err)
	default:
		return err
	}
}

func hasContainer(pod *corev1.Pod, name string) bool {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return true
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return true
		}
	}
	return false
}
