// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package jupyter_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/cloudveneto/caas/internal/lab"
)

const (
	gpuResource = "nvidia.com/gpu"
	gpuID       = "GPU-0ff1ce"
	// gpuVariable says in a container which devices it has got, gpuFile is one of them.
	gpuVariable = "NVIDIA_VISIBLE_DEVICES"
	gpuFile     = "/dev/nvidia0"
	gpuSocket   = "gpu.sock"
)

// gpus is a device plugin: it tells a node's kubelet of one GPU, whose device file is /dev/zero under another name.
type gpus struct {
	deviceplugin.UnimplementedDevicePluginServer

	server *grpc.Server
	// stopped is closed when the kubelet is to be left alone.
	stopped chan struct{}
	once    sync.Once
	serving sync.WaitGroup

	mu        sync.Mutex
	allocated [][]string
}

// startGPUs registers a plugin with the kubelet of a node, as any program on that node does.
func startGPUs(ctx context.Context, l *lab.Lab, node string) (*gpus, error) {
	// The directory that is /var/lib/kubelet for the node.
	dir := filepath.Join(l.Dir(), "nodes", node, "kubelet", "device-plugins")
	socket := filepath.Join(dir, gpuSocket)
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("device plugin: %w", err)
	}
	g := &gpus{server: grpc.NewServer(), stopped: make(chan struct{})}
	deviceplugin.RegisterDevicePluginServer(g.server, g)
	g.serving.Go(func() { _ = g.server.Serve(listener) }) // returns when the server is stopped
	connection, err := grpc.NewClient("unix://"+filepath.Join(dir, "kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		g.stop()
		return nil, err
	}
	defer func() { _ = connection.Close() }()
	_, err = deviceplugin.NewRegistrationClient(connection).Register(ctx, &deviceplugin.RegisterRequest{
		Version: deviceplugin.Version, Endpoint: gpuSocket, ResourceName: gpuResource,
		Options: &deviceplugin.DevicePluginOptions{},
	})
	if err != nil {
		g.stop()
		return nil, fmt.Errorf("register device plugin: %w", err)
	}
	return g, nil
}

// stop ends the plugin; the kubelet notices that its connection ends, and that the node has no GPU any more.
func (g *gpus) stop() {
	g.once.Do(func() { close(g.stopped) })
	g.server.Stop()
	g.serving.Wait()
}

// grants are the devices of each allocation.
func (g *gpus) grants() [][]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([][]string{}, g.allocated...)
}

func (g *gpus) GetDevicePluginOptions(context.Context, *deviceplugin.Empty) (*deviceplugin.DevicePluginOptions, error) {
	return &deviceplugin.DevicePluginOptions{}, nil
}

func (g *gpus) ListAndWatch(_ *deviceplugin.Empty, stream grpc.ServerStreamingServer[deviceplugin.ListAndWatchResponse]) error {
	err := stream.Send(&deviceplugin.ListAndWatchResponse{Devices: []*deviceplugin.Device{{ID: gpuID, Health: deviceplugin.Healthy}}})
	if err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
	case <-g.stopped:
	}
	return nil
}

// Allocate says what a container gets that is given devices.
func (g *gpus) Allocate(_ context.Context, request *deviceplugin.AllocateRequest) (*deviceplugin.AllocateResponse, error) {
	answer := &deviceplugin.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		ids := container.DevicesIds
		g.mu.Lock()
		g.allocated = append(g.allocated, ids)
		g.mu.Unlock()
		answer.ContainerResponses = append(answer.ContainerResponses, &deviceplugin.ContainerAllocateResponse{
			Envs:    map[string]string{gpuVariable: strings.Join(ids, ",")},
			Devices: []*deviceplugin.DeviceSpec{{HostPath: "/dev/zero", ContainerPath: gpuFile, Permissions: "rw"}},
		})
	}
	return answer, nil
}
