// SPDX-License-Identifier: Apache-2.0

package joiner

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab/hypervisor"
)

const (
	kubeletPort = 10250
	maxPods     = 110
	// statusBeats is after how many heart-beats an unchanged status is sent again.
	statusBeats = 30
	callTimeout = 30 * time.Second
)

// join makes the Node Ready and keeps it so.
func (j *Joiner) join(ctx context.Context, s *server, client kubernetes.Interface, seed *seed, options Options) {
	s.set(Waiting)
	node, ok := j.awaitNode(ctx, s, client, seed.nodeID)
	if !ok {
		return
	}
	var aside sync.WaitGroup
	defer aside.Wait()
	since := time.Now()
	for beat := 0; ctx.Err() == nil; beat++ {
		var failure error
		if beat%statusBeats == 0 {
			failure = j.sendStatus(ctx, s.Server, client, seed.nodeID, since)
			s.report(ctx, "node", failure)
		}
		if failure == nil && beat == 0 {
			s.set(Ready)
			aside.Go(func() { j.serve(ctx, s, client, seed, options) })
			if options.Again {
				aside.Go(func() { j.request(ctx, s, seed, nodeUserPrefix+seed.nodeID, "again") })
			}
		}
		s.report(ctx, "lease", renew(ctx, client, node, j.config.HeartBeat))
		delay := j.config.HeartBeat
		if failure != nil {
			delay, beat = j.config.Retry, -1
		}
		if !sleep(ctx, delay) {
			return
		}
	}
}

// awaitNode waits for the Node that was made for this server. It makes none itself.
func (j *Joiner) awaitNode(ctx context.Context, s *server, client kubernetes.Interface, name string) (*corev1.Node, bool) {
	for {
		attempt, cancel := context.WithTimeout(ctx, callTimeout)
		node, err := client.CoreV1().Nodes().Get(attempt, name, metav1.GetOptions{})
		cancel()
		s.report(ctx, "node", err)
		if err == nil {
			return node, true
		}
		if !sleep(ctx, j.config.Retry) {
			return nil, false
		}
	}
}

// sendStatus patches what a kubelet knows into the Node, which is healthy since a time.
func (j *Joiner) sendStatus(ctx context.Context, server hypervisor.Server, client kubernetes.Interface, name string, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	status, err := nodeStatus(server, name, j.config.Version, since)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	_, err = client.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("send status of node %q: %w", name, err)
	}
	return nil
}

// nodeStatus is that of a healthy node of the server's size.
func nodeStatus(server hypervisor.Server, name, version string, since time.Time) (corev1.NodeStatus, error) {
	address, err := server.Address()
	if err != nil {
		return corev1.NodeStatus{}, err
	}
	size := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(server.Flavor.VCPUs), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(int64(server.Flavor.RAM)<<20, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(int64(server.Flavor.Disk+server.Flavor.Ephemeral)<<30, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(maxPods, resource.DecimalSI),
	}
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason string) corev1.NodeCondition {
		return corev1.NodeCondition{
			Type: kind, Status: status, Reason: reason, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.NewTime(since),
		}
	}
	return corev1.NodeStatus{
		Capacity: size, Allocatable: size,
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: address.Addr().String()},
			{Type: corev1.NodeHostName, Address: name},
		},
		Conditions: []corev1.NodeCondition{
			condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory"),
			condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure"),
			condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID"),
			condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady"),
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: kubeletPort}},
		NodeInfo: corev1.NodeSystemInfo{
			MachineID: server.UUID, SystemUUID: server.UUID, BootID: server.UUID, KubeletVersion: version,
			OperatingSystem: "linux", Architecture: "amd64", OSImage: "none", ContainerRuntimeVersion: "none://0",
		},
	}, nil
}

// renew says that the node lives, in its lease.
func renew(ctx context.Context, client kubernetes.Interface, node *corev1.Node, every time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	leases := client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	lease, err := leases.Get(ctx, node.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, newLease(node, every), metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec = newLease(node, every).Spec
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}

func newLease(node *corev1.Node, every time.Duration) *coordinationv1.Lease {
	const beatsToDeath = 4
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: node.Name, Namespace: corev1.NamespaceNodeLease,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &node.Name, LeaseDurationSeconds: new(int32(max(1, every.Seconds()) * beatsToDeath)), RenewTime: &metav1.MicroTime{Time: time.Now()},
		},
	}
}
