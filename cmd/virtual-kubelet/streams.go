// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider"
	"github.com/cloudveneto/caas/provider/kubeletport"
)

// streams lets the kubelet port open connections into the provider's pods.
type streams struct{ pods *provider.Provider }

// Usable implements kubeletport.Streams.
func (s streams) Usable(ctx context.Context, kind kubeletport.Kind, namespace, pod, container string) error {
	kinds := map[kubeletport.Kind]interlink.StreamKind{
		kubeletport.Exec:        interlink.StreamExec,
		kubeletport.Attach:      interlink.StreamAttach,
		kubeletport.PortForward: interlink.StreamPortForward,
	}
	err := s.pods.Usable(ctx, kinds[kind], namespace, pod, container)
	if errors.Is(err, provider.ErrNotOffered) {
		return fmt.Errorf("%w: %w", kubeletport.ErrNotOffered, err)
	}
	return err
}

// Run implements kubeletport.Streams.
func (s streams) Run(ctx context.Context, t *kubeletport.Terminal) error {
	return s.pods.RunInContainer(ctx, t.Namespace, t.Pod, t.Container, t.Command, t.AttachIO, connected(t))
}

// Attach implements kubeletport.Streams.
func (s streams) Attach(ctx context.Context, t *kubeletport.Terminal) error {
	return s.pods.AttachToContainer(ctx, t.Namespace, t.Pod, t.Container, t.AttachIO, connected(t))
}

// Forward implements kubeletport.Streams.
func (s streams) Forward(ctx context.Context, namespace, pod string) (func(context.Context, int32, io.ReadWriteCloser) error, func(), error) {
	forwarding, err := s.pods.Forward(ctx, namespace, pod)
	if err != nil {
		return nil, nil, err
	}
	return forwarding.Port, func() { _ = forwarding.Close() }, nil
}

func connected(t *kubeletport.Terminal) provider.Connected {
	return provider.Connected{Stdin: t.WantStdin, Stdout: t.WantStdout, Stderr: t.WantStderr}
}
