// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/cloudveneto/caas/internal/interlink"
)

// ErrNotOffered says that the far end cannot open this kind of connection into a pod.
var ErrNotOffered = errors.New("not offered by the far end of this virtual node")

// Usable returns nil when a connection of this kind can be opened into a container
// of a pod; for port-forward container is "". Errors are ErrNotOffered or of the
// library's kinds.
func (p *Provider) Usable(ctx context.Context, kind interlink.StreamKind, namespace, name, container string) error {
	if !p.offers(kind) {
		return fmt.Errorf("%s is %w", kind, ErrNotOffered)
	}
	pod, err := p.GetPod(ctx, namespace, name)
	if err != nil {
		return err
	}
	if container != "" && !hasContainer(pod, container) {
		return errdefs.NotFound(fmt.Sprintf("pod %s/%s has no container %q", namespace, name, container))
	}
	return nil
}

func (p *Provider) offers(kind interlink.StreamKind) bool {
	can := p.features.Load()
	if can == nil || p.cfg.Sessions == nil {
		return false
	}
	switch kind {
	case interlink.StreamExec:
		return can.exec
	case interlink.StreamAttach:
		return can.attach
	case interlink.StreamPortForward:
		return can.forward
	default:
		return false
	}
}

// Connected says what of an AttachIO the caller asked for. The library gives
// streams for the rest, too, when the caller speaks WebSocket.
type Connected struct{ Stdin, Stdout, Stderr bool }

// RunInContainer runs a command in a container until it ends or ctx is done. An
// exit code other than 0 is a k8s.io/utils/exec.ExitError.
func (p *Provider) RunInContainer(ctx context.Context, namespace, name, container string, command []string, attach api.AttachIO, wanted Connected) error {
	defer p.metrics.session(interlink.StreamExec)()
	terminal, err := p.terminal(ctx, namespace, name, container, attach, wanted)
	if err != nil {
		return err
	}
	terminal.Command = command
	return p.cfg.Sessions.Exec(ctx, terminal)
}

// AttachToContainer connects to a container's main process until it ends or ctx is done.
func (p *Provider) AttachToContainer(ctx context.Context, namespace, name, container string, attach api.AttachIO, wanted Connected) error {
	defer p.metrics.session(interlink.StreamAttach)()
	terminal, err := p.terminal(ctx, namespace, name, container, attach, wanted)
	if err != nil {
		return err
	}
	return p.cfg.Sessions.Attach(ctx, terminal)
}

func (p *Provider) terminal(ctx context.Context, namespace, name, container string, attach api.AttachIO, wanted Connected) (*interlink.Terminal, error) {
	pod, err := p.GetPod(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	terminal := &interlink.Terminal{PodUID: string(pod.UID), Container: container, TTY: attach.TTY()}
	if wanted.Stdin {
		terminal.Stdin = attach.Stdin()
	}
	if wanted.Stdout {
		terminal.Stdout = attach.Stdout()
	}
	if wanted.Stderr && !terminal.TTY {
		terminal.Stderr = attach.Stderr()
	}
	if sizes := attach.Resize(); terminal.TTY && sizes != nil {
		terminal.Sizes = &sizeQueue{ctx: ctx, sizes: sizes}
	}
	return terminal, nil
}

// emptySizePause is how long no size is read after one without width and height:
// the library sends these without end once the caller has closed its stream.
const emptySizePause = time.Second

// sizeQueue gives client-go the sizes that the library gets.
type sizeQueue struct {
	ctx   context.Context //nolint:containedctx // client-go's interface takes none
	sizes <-chan api.TermSize
}

// Next implements remotecommand.TerminalSizeQueue.
func (q *sizeQueue) Next() *remotecommand.TerminalSize {
	for {
		select {
		case <-q.ctx.Done():
			return nil
		case size, open := <-q.sizes:
			if !open {
				return nil
			}
			if size.Width != 0 || size.Height != 0 {
				return &remotecommand.TerminalSize{Width: size.Width, Height: size.Height}
			}
		}
		pause := time.NewTimer(emptySizePause)
		select {
		case <-q.ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
	}
}

// Forwarding is one caller's way to the ports of a pod.
type Forwarding struct {
	forwarder *interlink.Forwarder
	done      func()
}

// Forward returns a way to the ports of a pod; the caller closes it.
func (p *Provider) Forward(ctx context.Context, namespace, name string) (*Forwarding, error) {
	pod, err := p.GetPod(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return &Forwarding{
		forwarder: p.cfg.Sessions.Forwarder(string(pod.UID)),
		done:      p.metrics.session(interlink.StreamPortForward),
	}, nil
}

// Port connects stream to a port until either side is done or ctx is.
func (f *Forwarding) Port(ctx context.Context, port int32, stream io.ReadWriteCloser) error {
	return f.forwarder.Forward(ctx, port, stream)
}

// Close ends all connections to ports.
func (f *Forwarding) Close() error {
	defer f.done()
	return f.forwarder.Close()
}
