// SPDX-License-Identifier: Apache-2.0

//go:build integration

package pool_test

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/pool/externalgrpc"
	"github.com/cloudveneto/caas/osnode/pool/pooltest"
)

// autoscaler is what a cluster-autoscaler has: a connection with a certificate.
func (w *world) autoscaler() externalgrpc.CloudProviderClient {
	w.t.Helper()
	authority := pooltest.NewAuthority(w.t)
	files := externalgrpc.Files{ClientCA: authority.CA()}
	files.Certificate, files.Key = authority.Sign("osnode-controller")
	listener, err := new(net.ListenConfig).Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(w.t, err)
	server, err := externalgrpc.New(externalgrpc.Config{Groups: w.pools, Listener: listener, TLS: files})
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Start(ctx) }()
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(authority.Client("autoscaler", "osnode-controller"))))
	require.NoError(w.t, err)
	w.t.Cleanup(func() {
		require.NoError(w.t, connection.Close())
		cancel()
		require.NoError(w.t, <-ended)
	})
	return externalgrpc.NewCloudProviderClient(connection)
}

func TestIntegrationExternalAutoscaler(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "external")
	w.pool("batch", func(p *osnodev1.OpenStackNodePool) {
		p.Spec.Flavors = []string{"medium", "large"}
		p.Spec.Autoscaling.Driver, p.Spec.Autoscaling.Min, p.Spec.Autoscaling.Max = osnodev1.DriverExternalGRPC, 1, 4
	})
	w.pool("builtin", func(p *osnodev1.OpenStackNodePool) { p.Spec.Flavors = []string{"small"} })
	w.eventually(func() bool { return w.poolState("batch").Status.ReadyReplicas == 1 }, "the least size")
	client, ctx := w.autoscaler(), t.Context()

	w.pod("job", "6")
	w.never(func() bool { return len(w.nodes()) != 1 }, "the built-in autoscaler leaves the pool alone")

	all, err := client.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
	require.NoError(t, err)
	require.Len(t, all.GetNodeGroups(), 2, "only pools of that driver")
	medium, large := all.GetNodeGroups()[0], all.GetNodeGroups()[1]
	assert.Equal(t, "external/batch/medium", medium.GetId())
	assert.EqualValues(t, 1, medium.GetMinSize())
	assert.EqualValues(t, 3, large.GetMaxSize(), "the other group has one of four")

	template, err := client.NodeGroupTemplateNodeInfo(ctx, &externalgrpc.NodeGroupTemplateNodeInfoRequest{Id: large.GetId()})
	require.NoError(t, err)
	var node corev1.Node
	require.NoError(t, node.Unmarshal(template.GetNodeBytes()))
	assert.Equal(t, "u-user-external", node.Labels[osnodev1.NodeLabelPool])
	assert.EqualValues(t, 8, node.Status.Capacity.Cpu().Value())
	assert.EqualValues(t, 7800, node.Status.Allocatable.Cpu().MilliValue())

	_, err = client.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: large.GetId(), Delta: 4})
	assert.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.Eventually(t, func() bool {
		_, err := client.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: large.GetId(), Delta: 2})
		return err == nil
	}, patience, step)
	w.eventually(func() bool { return w.poolState("batch").Status.ReadyReplicas == 3 }, "two more nodes")
	w.eventually(func() bool { return w.scheduled() == 1 }, "the pod runs")
	assert.EqualValues(t, 3, *w.poolState("batch").Spec.Replicas)

	var nodes *externalgrpc.NodeGroupNodesResponse
	w.eventually(func() bool {
		nodes, err = client.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: large.GetId()})
		return err == nil && len(nodes.GetInstances()) == 2 &&
			nodes.GetInstances()[1].GetStatus().GetInstanceState() == externalgrpc.InstanceStatus_instanceRunning
	}, "both run")
	gone := &externalgrpc.ExternalGrpcNode{ProviderID: nodes.GetInstances()[0].GetId()}
	group, err := client.NodeGroupForNode(ctx, &externalgrpc.NodeGroupForNodeRequest{Node: gone})
	require.NoError(t, err)
	assert.Equal(t, large.GetId(), group.GetNodeGroup().GetId())
	_, err = client.NodeGroupDeleteNodes(ctx, &externalgrpc.NodeGroupDeleteNodesRequest{Id: medium.GetId(), Nodes: []*externalgrpc.ExternalGrpcNode{gone}})
	assert.Equal(t, codes.NotFound, status.Code(err), "not of that group")
	require.Eventually(t, func() bool {
		_, err := client.NodeGroupDeleteNodes(ctx, &externalgrpc.NodeGroupDeleteNodesRequest{Id: large.GetId(), Nodes: []*externalgrpc.ExternalGrpcNode{gone}})
		return err == nil
	}, patience, step)
	w.eventually(func() bool { return w.flavors()["large"] == 1 }, "one is gone")
	w.never(func() bool { return len(w.nodes()) != 2 }, "and stays gone")
	_, err = client.NodeGroupDecreaseTargetSize(ctx, &externalgrpc.NodeGroupDecreaseTargetSizeRequest{Id: large.GetId(), Delta: -1})
	assert.Equal(t, codes.FailedPrecondition, status.Code(err), "what is there is not taken back")
}
