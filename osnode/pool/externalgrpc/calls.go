// SPDX-License-Identifier: Apache-2.0

package externalgrpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/pool"
)

// Classes of errors of instances, as cluster-autoscaler numbers them
// (cluster-autoscaler/cloudprovider/cloud_provider.go).
const (
	classOutOfResources = 1
	classOther          = 99
)

// wireError is an error as gRPC has it.
func wireError(err error) error {
	switch _, already := grpcstatus.FromError(err); {
	case err == nil, already:
		return err
	case errors.Is(err, pool.ErrNoGroup):
		return grpcstatus.Error(codes.NotFound, err.Error())
	case errors.Is(err, pool.ErrLimit):
		return grpcstatus.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, pool.ErrBusy):
		return grpcstatus.Error(codes.Unavailable, err.Error())
	default:
		return grpcstatus.Error(codes.Internal, err.Error())
	}
}

// groupName is a group's id on the wire; a flavor's name may have slashes.
func groupName(id pool.GroupID) string {
	return id.Pool.Namespace + "/" + id.Pool.Name + "/" + id.Flavor
}

func groupID(name string) (pool.GroupID, error) {
	parts := strings.SplitN(name, "/", 3)
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return pool.GroupID{}, fmt.Errorf("%w: %q", pool.ErrNoGroup, name)
	}
	return pool.GroupID{Pool: types.NamespacedName{Namespace: parts[0], Name: parts[1]}, Flavor: parts[2]}, nil
}

func nodeGroup(group pool.Group) *NodeGroup {
	return &NodeGroup{
		Id: groupName(group.ID), MinSize: int32(group.Min), MaxSize: int32(group.Max), //nolint:gosec // at most some thousands
		Debug: fmt.Sprintf("flavor %s of pool %s: %d nodes of %d to %d", group.ID.Flavor, group.ID.Pool, group.Size, group.Min, group.Max),
	}
}

// NodeGroups are all groups.
func (s *Server) NodeGroups(ctx context.Context, _ *NodeGroupsRequest) (*NodeGroupsResponse, error) {
	groups, err := s.config.Groups.ExternalGroups(ctx)
	if err != nil {
		return nil, err
	}
	response := &NodeGroupsResponse{}
	for _, group := range groups {
		response.NodeGroups = append(response.NodeGroups, nodeGroup(group))
	}
	return response, nil
}

// NodeGroupForNode is the group of a node; one without a name for all that are in none.
func (s *Server) NodeGroupForNode(ctx context.Context, request *NodeGroupForNodeRequest) (*NodeGroupForNodeResponse, error) {
	instance := request.GetNode().GetProviderID()
	if instance == "" {
		return &NodeGroupForNodeResponse{NodeGroup: &NodeGroup{}}, nil
	}
	group, err := s.config.Groups.GroupOf(ctx, instance)
	switch {
	case errors.Is(err, pool.ErrNoGroup):
		return &NodeGroupForNodeResponse{NodeGroup: &NodeGroup{}}, nil
	case err != nil:
		return nil, err
	default:
		return &NodeGroupForNodeResponse{NodeGroup: nodeGroup(group)}, nil
	}
}

// PricingNodePrice is answered Unimplemented, which is how the autoscaler learns that machines
// have no price: its expander "price" cannot be used.
func (s *Server) PricingNodePrice(context.Context, *PricingNodePriceRequest) (*PricingNodePriceResponse, error) {
	return nil, unpriced()
}

// PricingPodPrice is like PricingNodePrice.
func (s *Server) PricingPodPrice(context.Context, *PricingPodPriceRequest) (*PricingPodPriceResponse, error) {
	return nil, unpriced()
}

func unpriced() error {
	return grpcstatus.Error(codes.Unimplemented, "OpenStackNodes have no price; use another expander than price")
}

// GPULabel is the label that nodes with GPUs have.
func (s *Server) GPULabel(context.Context, *GPULabelRequest) (*GPULabelResponse, error) {
	return &GPULabelResponse{Label: osnodev1.LabelGPU}, nil
}

// GetAvailableGPUTypes are none: which there are, only flavors say.
func (s *Server) GetAvailableGPUTypes(context.Context, *GetAvailableGPUTypesRequest) (*GetAvailableGPUTypesResponse, error) {
	return &GetAvailableGPUTypesResponse{}, nil
}

// Cleanup has nothing to clean up.
func (s *Server) Cleanup(context.Context, *CleanupRequest) (*CleanupResponse, error) {
	return &CleanupResponse{}, nil
}

// Refresh has nothing to do: nothing is cached here.
func (s *Server) Refresh(context.Context, *RefreshRequest) (*RefreshResponse, error) {
	return &RefreshResponse{}, nil
}

// NodeGroupTargetSize is how many nodes a group has or will have.
func (s *Server) NodeGroupTargetSize(ctx context.Context, request *NodeGroupTargetSizeRequest) (*NodeGroupTargetSizeResponse, error) {
	id, err := groupID(request.GetId())
	if err != nil {
		return nil, err
	}
	instances, err := s.config.Groups.Instances(ctx, id)
	if err != nil {
		return nil, err
	}
	return &NodeGroupTargetSizeResponse{TargetSize: int32(len(instances))}, nil //nolint:gosec // at most some thousands
}

// NodeGroupIncreaseSize makes a group larger.
func (s *Server) NodeGroupIncreaseSize(ctx context.Context, request *NodeGroupIncreaseSizeRequest) (*NodeGroupIncreaseSizeResponse, error) {
	id, err := groupID(request.GetId())
	if err != nil {
		return nil, err
	}
	return &NodeGroupIncreaseSizeResponse{}, s.config.Groups.Grow(ctx, id, int(request.GetDelta()))
}

// NodeGroupDeleteNodes removes nodes. One that never became a node goes by its instance's id,
// which cluster-autoscaler then has as its provider id.
func (s *Server) NodeGroupDeleteNodes(ctx context.Context, request *NodeGroupDeleteNodesRequest) (*NodeGroupDeleteNodesResponse, error) {
	id, err := groupID(request.GetId())
	if err != nil {
		return nil, err
	}
	var instances []string
	for _, node := range request.GetNodes() {
		instances = append(instances, node.GetProviderID())
	}
	return &NodeGroupDeleteNodesResponse{}, s.config.Groups.Remove(ctx, id, instances)
}

// NodeGroupDecreaseTargetSize takes back nodes that are not there yet; the number is negative.
func (s *Server) NodeGroupDecreaseTargetSize(ctx context.Context, request *NodeGroupDecreaseTargetSizeRequest) (*NodeGroupDecreaseTargetSizeResponse, error) {
	id, err := groupID(request.GetId())
	if err != nil {
		return nil, err
	}
	return &NodeGroupDecreaseTargetSizeResponse{}, s.config.Groups.Shrink(ctx, id, -int(request.GetDelta()))
}

// NodeGroupNodes are a group's nodes, with what is to become one.
func (s *Server) NodeGroupNodes(ctx context.Context, request *NodeGroupNodesRequest) (*NodeGroupNodesResponse, error) {
	id, err := groupID(request.GetId())
	if err != nil {
		return nil, err
	}
	instances, err := s.config.Groups.Instances(ctx, id)
	if err != nil {
		return nil, err
	}
	response := &NodeGroupNodesResponse{}
	for _, instance := range instances {
		response.Instances = append(response.Instances, wireInstance(instance))
	}
	return response, nil
}

func wireInstance(instance pool.Instance) *Instance {
	status := &InstanceStatus{InstanceState: InstanceStatus_instanceCreating}
	if instance.Running {
		status.InstanceState = InstanceStatus_instanceRunning
	}
	if instance.ErrorCode != "" {
		class := int32(classOther)
		if instance.ErrorCode == osnodev1.ReasonQuotaExceeded || instance.ErrorCode == osnodev1.ReasonNoValidHost {
			class = classOutOfResources
		}
		status.ErrorInfo = &InstanceErrorInfo{ErrorCode: instance.ErrorCode, ErrorMessage: instance.ErrorMessage, InstanceErrorClass: class}
	}
	return &Instance{Id: instance.ID, Status: status}
}

// NodeGroupTemplateNodeInfo is what a new node will be like, in the forms of older and newer
// releases.
func (s *Server) NodeGroupTemplateNodeInfo(ctx context.Context, request *NodeGroupTemplateNodeInfoRequest) (*NodeGroupTemplateNodeInfoResponse, error) {
	id, err := groupID(request.GetId())
	if err != nil {
		return nil, err
	}
	node, err := s.config.Groups.TemplateNode(ctx, id)
	if err != nil {
		return nil, err
	}
	encoded, err := encode(node)
	if err != nil {
		return nil, err
	}
	return &NodeGroupTemplateNodeInfoResponse{NodeInfo: encoded, NodeBytes: encoded}, nil
}

func encode(node *corev1.Node) ([]byte, error) {
	encoded, err := node.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode a node: %w", err)
	}
	return encoded, nil
}

// NodeGroupGetOptions are the autoscaler's own, but for the time after which a node that is not
// needed goes: that is the pool's.
func (s *Server) NodeGroupGetOptions(ctx context.Context, request *NodeGroupAutoscalingOptionsRequest) (*NodeGroupAutoscalingOptionsResponse, error) {
	id, err := groupID(request.GetId())
	if err != nil {
		return nil, err
	}
	idle, err := s.config.Groups.IdleTTL(ctx, id)
	if err != nil {
		return nil, err
	}
	options := request.GetDefaults()
	if options == nil {
		return nil, grpcstatus.Error(codes.Unimplemented, "there are no options but the autoscaler's own")
	}
	// Releases send and read one of the two; setting the other does no harm.
	options.ScaleDownUnneededTime = &Nanoseconds{Duration: int64(idle.Duration)}
	options.ScaleDownUnneededDuration = durationpb.New(idle.Duration)
	return &NodeGroupAutoscalingOptionsResponse{NodeGroupAutoscalingOptions: options}, nil
}
