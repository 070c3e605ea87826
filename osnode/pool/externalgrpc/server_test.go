// SPDX-License-Identifier: Apache-2.0

package externalgrpc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/pool"
	"github.com/cloudveneto/caas/osnode/pool/externalgrpc"
	"github.com/cloudveneto/caas/osnode/pool/pooltest"
)

const (
	serverName = "osnode-controller"
	clientName = "cluster-autoscaler"
	groupName  = "cms/batch/cloud/veneto.medium" // a flavor's name may have a slash
)

// groups is one group, in memory.
type groups struct {
	mu        sync.Mutex
	instances []pool.Instance
	failure   error
}

func (g *groups) id() pool.GroupID {
	return pool.GroupID{Pool: types.NamespacedName{Namespace: "cms", Name: "batch"}, Flavor: "cloud/veneto.medium"}
}

func (g *groups) check(id pool.GroupID) error {
	if g.failure != nil {
		return g.failure
	}
	if id != g.id() {
		return fmt.Errorf("%w: %v", pool.ErrNoGroup, id)
	}
	return nil
}

func (g *groups) ExternalGroups(context.Context) ([]pool.Group, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return []pool.Group{{ID: g.id(), Min: 1, Max: 4, Size: len(g.instances)}}, g.failure
}

func (g *groups) GroupOf(ctx context.Context, instance string) (pool.Group, error) {
	all, err := g.ExternalGroups(ctx)
	if err != nil {
		return pool.Group{}, err
	}
	for _, known := range g.instances {
		if known.ID == instance {
			return all[0], nil
		}
	}
	return pool.Group{}, pool.ErrNoGroup
}

func (g *groups) Instances(_ context.Context, id pool.GroupID) ([]pool.Instance, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.instances, g.check(id)
}

func (g *groups) TemplateNode(_ context.Context, id pool.GroupID) (*corev1.Node, error) {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "planned", Labels: map[string]string{"pool": "batch"}}}, g.check(id)
}

func (g *groups) IdleTTL(_ context.Context, id pool.GroupID) (*metav1.Duration, error) {
	return &metav1.Duration{Duration: 7 * time.Minute}, g.check(id)
}

func (g *groups) Grow(_ context.Context, id pool.GroupID, count int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.check(id); err != nil {
		return err
	}
	if len(g.instances)+count > 4 {
		return pool.ErrLimit
	}
	for range count {
		g.instances = append(g.instances, pool.Instance{ID: fmt.Sprintf("openstack://regionOne/%d", len(g.instances))})
	}
	return nil
}

func (g *groups) Shrink(_ context.Context, id pool.GroupID, count int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if count < 1 || count > len(g.instances) {
		return pool.ErrLimit
	}
	g.instances = g.instances[:len(g.instances)-count]
	return g.check(id)
}

func (g *groups) Remove(_ context.Context, id pool.GroupID, instances []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, gone := range instances {
		for i := range g.instances {
			if g.instances[i].ID == gone {
				g.instances = append(g.instances[:i:i], g.instances[i+1:]...)
				break
			}
		}
	}
	return g.check(id)
}

func serve(t *testing.T, g *groups, clients ...string) (address string, authority *pooltest.Authority, files externalgrpc.Files) {
	t.Helper()
	authority = pooltest.NewAuthority(t)
	files.ClientCA = authority.CA()
	files.Certificate, files.Key = authority.Sign(serverName)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server, err := externalgrpc.New(externalgrpc.Config{Groups: g, Listener: listener, TLS: files, Clients: clients})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return listener.Addr().String(), authority, files
}

func dial(t *testing.T, address string, config *tls.Config) externalgrpc.CloudProviderClient {
	t.Helper()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, connection.Close()) })
	return externalgrpc.NewCloudProviderClient(connection)
}

func TestServer(t *testing.T) {
	t.Parallel()
	g := &groups{instances: []pool.Instance{{ID: "openstack://regionOne/a", Running: true}}}
	address, authority, _ := serve(t, g, clientName)
	client := dial(t, address, authority.Client(clientName, serverName))
	ctx := t.Context()

	all, err := client.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
	require.NoError(t, err)
	require.Len(t, all.GetNodeGroups(), 1)
	assert.Equal(t, groupName, all.GetNodeGroups()[0].GetId())
	assert.EqualValues(t, 1, all.GetNodeGroups()[0].GetMinSize())
	assert.EqualValues(t, 4, all.GetNodeGroups()[0].GetMaxSize())

	_, err = client.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: groupName, Delta: 2})
	require.NoError(t, err)
	size, err := client.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: groupName})
	require.NoError(t, err)
	assert.EqualValues(t, 3, size.GetTargetSize())
	_, err = client.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: groupName, Delta: 2})
	assert.Equal(t, codes.FailedPrecondition, status.Code(err))
	_, err = client.NodeGroupDecreaseTargetSize(ctx, &externalgrpc.NodeGroupDecreaseTargetSizeRequest{Id: groupName, Delta: -1})
	require.NoError(t, err)
	_, err = client.NodeGroupDeleteNodes(ctx, &externalgrpc.NodeGroupDeleteNodesRequest{Id: groupName, Nodes: []*externalgrpc.ExternalGrpcNode{{ProviderID: "openstack://regionOne/1"}}})
	require.NoError(t, err)

	for provider, want := range map[string]string{"openstack://regionOne/a": groupName, "openstack://regionOne/metal": "", "": ""} {
		group, err := client.NodeGroupForNode(ctx, &externalgrpc.NodeGroupForNodeRequest{Node: &externalgrpc.ExternalGrpcNode{ProviderID: provider}})
		require.NoError(t, err)
		assert.Equal(t, want, group.GetNodeGroup().GetId())
	}
	label, err := client.GPULabel(ctx, &externalgrpc.GPULabelRequest{})
	require.NoError(t, err)
	assert.Equal(t, "osn.infn.it/gpu", label.GetLabel())
	_, err = client.PricingNodePrice(ctx, &externalgrpc.PricingNodePriceRequest{})
	assert.Equal(t, codes.Unimplemented, status.Code(err))
	assert.ErrorContains(t, err, "use another expander than price")
	_, err = client.PricingPodPrice(ctx, &externalgrpc.PricingPodPriceRequest{})
	assert.Equal(t, codes.Unimplemented, status.Code(err))
	assert.ErrorContains(t, err, "use another expander than price")
	_, err = client.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: "none"})
	assert.Equal(t, codes.NotFound, status.Code(err))
	for _, call := range []func() error{
		func() error { _, err := client.Refresh(ctx, &externalgrpc.RefreshRequest{}); return err },
		func() error { _, err := client.Cleanup(ctx, &externalgrpc.CleanupRequest{}); return err },
		func() error {
			_, err := client.GetAvailableGPUTypes(ctx, &externalgrpc.GetAvailableGPUTypesRequest{})
			return err
		},
	} {
		assert.NoError(t, call())
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	g := &groups{instances: []pool.Instance{
		{ID: "running", Running: true},
		{ID: "coming"},
		{ID: "full", ErrorCode: osnodev1.ReasonQuotaExceeded, ErrorMessage: "cores 20/20"},
	}}
	address, authority, _ := serve(t, g)
	answer, err := dial(t, address, authority.Client("anybody", serverName)).NodeGroupNodes(t.Context(), &externalgrpc.NodeGroupNodesRequest{Id: groupName})
	require.NoError(t, err)
	want := &externalgrpc.NodeGroupNodesResponse{Instances: []*externalgrpc.Instance{
		{Id: "running", Status: &externalgrpc.InstanceStatus{InstanceState: externalgrpc.InstanceStatus_instanceRunning}},
		{Id: "coming", Status: &externalgrpc.InstanceStatus{InstanceState: externalgrpc.InstanceStatus_instanceCreating}},
		{Id: "full", Status: &externalgrpc.InstanceStatus{
			InstanceState: externalgrpc.InstanceStatus_instanceCreating,
			ErrorInfo:     &externalgrpc.InstanceErrorInfo{ErrorCode: "QuotaExceeded", ErrorMessage: "cores 20/20", InstanceErrorClass: 1},
		}},
	}}
	assert.True(t, proto.Equal(want, answer), "%v", answer)
}

func TestOldAndNewReleasesReadTheSame(t *testing.T) {
	t.Parallel()
	address, authority, _ := serve(t, &groups{})
	client := dial(t, address, authority.Client(clientName, serverName))
	info, err := client.NodeGroupTemplateNodeInfo(t.Context(), &externalgrpc.NodeGroupTemplateNodeInfoRequest{Id: groupName})
	require.NoError(t, err)
	wire, err := proto.Marshal(info)
	require.NoError(t, err)
	fields := map[protowire.Number]corev1.Node{}
	for len(wire) > 0 {
		number, kind, length := protowire.ConsumeTag(wire)
		require.Equal(t, protowire.BytesType, kind)
		value, more := protowire.ConsumeBytes(wire[length:])
		require.Positive(t, more)
		var node corev1.Node
		require.NoError(t, node.Unmarshal(value))
		fields[number] = node
		wire = wire[length+more:]
	}
	require.Len(t, fields, 2)
	for _, number := range []protowire.Number{1, 2} {
		assert.Equal(t, "batch", fields[number].Labels["pool"])
	}

	options, err := client.NodeGroupGetOptions(t.Context(), &externalgrpc.NodeGroupAutoscalingOptionsRequest{
		Id: groupName, Defaults: &externalgrpc.NodeGroupAutoscalingOptions{ScaleDownUtilizationThreshold: 0.5, ZeroOrMaxNodeScaling: true},
	})
	require.NoError(t, err)
	got := options.GetNodeGroupAutoscalingOptions()
	assert.InDelta(t, 0.5, got.GetScaleDownUtilizationThreshold(), 0)
	assert.True(t, got.GetZeroOrMaxNodeScaling())
	assert.EqualValues(t, 7*time.Minute, got.GetScaleDownUnneededTime().GetDuration())
	assert.Equal(t, 7*time.Minute, got.GetScaleDownUnneededDuration().AsDuration())
}

func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	address, authority, files := serve(t, &groups{}, clientName)
	stranger := pooltest.NewAuthority(t).Client(clientName, serverName)
	stranger.RootCAs = authority.Pool()
	tests := map[string]struct {
		config  *tls.Config
		allowed bool
	}{
		"the autoscaler":                 {config: authority.Client(clientName, serverName), allowed: true},
		"another name":                   {config: authority.Client("somebody", serverName)},
		"another authority":              {config: stranger},
		"without a certificate":          {config: &tls.Config{RootCAs: authority.Pool(), ServerName: serverName}},
		"the autoscaler of another host": {config: authority.Client(clientName, "elsewhere")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := dial(t, address, tc.config).Refresh(t.Context(), &externalgrpc.RefreshRequest{})
			if tc.allowed {
				require.NoError(t, err)
				return
			}
			assert.Equal(t, codes.Unavailable, status.Code(err))
		})
	}

	certificate, key := authority.Sign("renewed")
	for from, to := range map[string]string{certificate: files.Certificate, key: files.Key} {
		text, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, text, 0o600))
	}
	_, err := dial(t, address, authority.Client(clientName, "renewed")).Refresh(t.Context(), &externalgrpc.RefreshRequest{})
	assert.NoError(t, err, "a renewed certificate is used without a restart")
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for failure, want := range map[error]codes.Code{
		pool.ErrNoGroup: codes.NotFound, pool.ErrLimit: codes.FailedPrecondition, pool.ErrBusy: codes.Unavailable, errors.New("else"): codes.Internal,
	} {
		address, authority, _ := serve(t, &groups{failure: failure})
		_, err := dial(t, address, authority.Client(clientName, serverName)).NodeGroupIncreaseSize(t.Context(), &externalgrpc.NodeGroupIncreaseSizeRequest{Id: groupName, Delta: 1})
		assert.Equal(t, want, status.Code(err))
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := externalgrpc.New(externalgrpc.Config{})
	require.Error(t, err)
	assert.ErrorContains(t, err, "groups are missing")
	assert.ErrorContains(t, err, "an address is missing")
	assert.ErrorContains(t, err, "no such file")
}
