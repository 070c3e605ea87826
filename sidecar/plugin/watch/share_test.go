// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/watch"
)

func share(cpu, gpu string) corev1.ResourceList {
	return corev1.ResourceList{"cpu": resource.MustParse(cpu), "nvidia.com/mig": resource.MustParse(gpu)}
}

func TestCapacityIsNoMoreThanTheShare(t *testing.T) {
	t.Parallel()
	own, mate := created("u1", "alice"), created("u2", "alice")
	own.Annotations = map[string]string{interlink.AnnotationOriginNode: "this"}
	mate.Annotations = map[string]string{interlink.AnnotationOriginNode: "other"}
	w, _ := run(t, watch.CapacityConfig{Share: share("3", "1")}, everything, node("a", nil), own, mate)
	settles(t, w, "alice", &interlink.PingResources{CPU: "3", Memory: "8Gi", Pods: "10", Accelerators: gpus("nvidia.com/mig", "1")})
	settles(t, w, "bob", &interlink.PingResources{CPU: "2", Memory: "6Gi", Pods: "8", Accelerators: gpus("nvidia.com/mig", "1")})
	// What the client's other virtual nodes use of its share is not there twice.
	assert.Equal(t, &interlink.PingResources{CPU: "2", Memory: "7Gi", Pods: "9", Accelerators: gpus("nvidia.com/mig", "1")},
		w.Capacity(table.Selection{Origin: "alice", Node: "this"}))
}

func TestShareOfNodesThatAreNotSeen(t *testing.T) {
	t.Parallel()
	blind := func(a *authorizationv1.ResourceAttributes) bool { return a.Resource != "nodes" }
	w, _ := run(t, watch.CapacityConfig{Share: share("3", "1")}, blind)
	assert.Equal(t, &interlink.PingResources{CPU: "3", Accelerators: gpus("nvidia.com/mig", "1")}, w.Capacity(table.Selection{}))
	w, _ = run(t, watch.CapacityConfig{Share: share("3", "1"), Static: share("2", "4")}, blind)
	assert.Equal(t, &interlink.PingResources{CPU: "2", Accelerators: gpus("nvidia.com/mig", "1")}, w.Capacity(table.Selection{}))
	w, _ = run(t, watch.CapacityConfig{Share: share("3", "1"), Disabled: true}, blind)
	assert.Nil(t, w.Capacity(table.Selection{}))
}

// TestOtherClientsTakeRoom: their pods are not in the table, and what they use is gone all the same.
func TestOtherClientsTakeRoom(t *testing.T) {
	t.Parallel()
	elsewhere := created("u3", "alice")
	elsewhere.Namespace = "another-sidecar's"
	for name, test := range map[string]struct {
		origins watch.Origins
		client  string
		want    *interlink.PingResources
	}{
		"one client":   {watch.Origins{Only: "alice"}, "alice", &interlink.PingResources{CPU: "1", Memory: "5Gi", Pods: "7"}},
		"the others":   {watch.Origins{Except: []string{"alice"}}, "bob", &interlink.PingResources{CPU: "1", Memory: "5Gi", Pods: "7"}},
		"all of them":  {watch.Origins{}, "alice", &interlink.PingResources{CPU: "1", Memory: "5Gi", Pods: "7"}},
		"a new client": {watch.Origins{Only: "carol"}, "carol", &interlink.PingResources{Memory: "4Gi", Pods: "6"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := runFor(t, watch.Config{Origins: test.origins}, everything, node("a", func(n *corev1.Node) {
				delete(n.Status.Allocatable, "nvidia.com/mig")
			}), pod("foreign", nil), created("u1", "alice"), created("u2", "bob"), elsewhere)
			settles(t, w, test.client, test.want)
		})
	}
}
