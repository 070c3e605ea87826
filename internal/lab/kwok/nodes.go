// SPDX-License-Identifier: Apache-2.0

package kwok

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	createParallelism = 16
	readyTimeout      = 2 * time.Minute
	readyInterval     = 100 * time.Millisecond
	// fakeVersion is what the nodes say of themselves where real ones tell versions.
	fakeVersion = "fake"
)

// createNodes makes the node objects; those that exist already are left as they are.
func (c Config) createNodes(ctx context.Context) ([]string, error) {
	template, err := c.node()
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(createParallelism)
	names := make([]string, c.Nodes)
	address := netip.AddrFrom4([4]byte{10, 191, 0, 1})
	for i := range names {
		node := template.DeepCopy()
		node.Name = c.Prefix + strconv.Itoa(i+1)
		node.Labels[corev1.LabelHostname] = node.Name
		node.Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: address.String()}, {Type: corev1.NodeHostName, Address: node.Name},
		}
		names[i], address = node.Name, address.Next()
		group.Go(func() error {
			_, err := c.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
			if err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("create fake node %s: %w", node.Name, err)
			}
			return nil
		})
	}
	return names, group.Wait()
}

// node is the object that all nodes are made from.
func (c Config) node() (*corev1.Node, error) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{
		managedLabel: "true", corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
	}}}
	maps.Copy(node.Labels, c.Labels)
	for _, text := range c.Taints {
		key, value, effect, err := splitTaint(text)
		if err != nil {
			return nil, err
		}
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	size := corev1.ResourceList{}
	for name, text := range map[corev1.ResourceName]string{
		corev1.ResourceCPU: c.CPU, corev1.ResourceMemory: c.Memory, corev1.ResourcePods: c.Pods, corev1.ResourceEphemeralStorage: c.Memory,
	} {
		quantity, err := resource.ParseQuantity(text)
		if err != nil {
			return nil, fmt.Errorf("size of fake nodes: %s %q: %w", name, text, err)
		}
		size[name] = quantity
	}
	node.Status = corev1.NodeStatus{
		Capacity: size, Allocatable: size,
		NodeInfo: corev1.NodeSystemInfo{
			Architecture: "amd64", OperatingSystem: "linux", KubeletVersion: fakeVersion, ContainerRuntimeVersion: fakeVersion,
			KernelVersion: fakeVersion, OSImage: fakeVersion, MachineID: fakeVersion, SystemUUID: fakeVersion, BootID: fakeVersion,
		},
	}
	return node, nil
}

func deleteNodes(ctx context.Context, client kubernetes.Interface, names []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(createParallelism)
	for _, name := range names {
		group.Go(func() error {
			err := client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("delete fake node %s: %w", name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// waitReady returns when all nodes are Ready.
func (n *Nodes) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for {
		ready, err := n.countReady(ctx)
		if err == nil && ready == len(n.Names) {
			return nil
		}
		if !n.process.Alive() {
			return fmt.Errorf("KWOK ended; see %s", n.LogFile())
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%d of %d fake nodes are ready: %w", ready, len(n.Names), ctx.Err()), err)
		case <-ticker.C:
		}
	}
}

func (n *Nodes) countReady(ctx context.Context) (int, error) {
	list, err := n.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: managedLabel, ResourceVersion: "0"})
	if err != nil {
		return 0, fmt.Errorf("list fake nodes: %w", err)
	}
	wanted := make(map[string]bool, len(n.Names))
	for _, name := range n.Names {
		wanted[name] = true
	}
	ready := 0
	for i := range list.Items {
		if wanted[list.Items[i].Name] && isReady(&list.Items[i]) {
			ready++
		}
	}
	return ready, nil
}

// isReady tells whether pods can be put on the node: it is Ready, and the taint that nodes begin with is gone.
func isReady(node *corev1.Node) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Key == corev1.TaintNodeNotReady {
			return false
		}
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
