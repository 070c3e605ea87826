// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package osnode_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// workload is a pod that does nothing until it is deleted.
type workload struct {
	name, cpu string
	// pool is the value of the label that it selects nodes by. The platform's admission adds what the pod tolerates.
	pool string
	// node selects one node instead.
	node string
	// shared lets it use the project's nodes, too.
	shared bool
}

func (w workload) pod() *corev1.Pod {
	selector := map[string]string{osnodev1.NodeLabelPool: w.pool}
	if w.node != "" {
		selector = map[string]string{corev1.LabelHostname: w.node}
	}
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: w.name},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(1)), NodeSelector: selector,
			Containers: []corev1.Container{{
				Name: "idle", Image: "docker.io/library/busybox:1.36", Command: []string{"sleep", "3600"},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(w.cpu)}},
			}},
		},
	}
	if w.shared {
		pod.Annotations = map[string]string{"osn.infn.it/policy": string(osnodev1.PolicyShared)}
	}
	return pod
}

// run has kubectl make the pod.
func (u user) run(t *testing.T, w workload) {
	t.Helper()
	u.apply(t, w.pod())
}

// apply has kubectl apply an object, in the user's namespace.
func (u user) apply(t *testing.T, object client.Object) {
	t.Helper()
	u.kubectl(t, "apply", "-f", file(t, object))
}

// file is a file with an object in it.
func file(t *testing.T, object client.Object) string {
	t.Helper()
	encoded, err := json.Marshal(object)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "object.json")
	require.NoError(t, os.WriteFile(path, encoded, 0o600))
	return path
}

// pod is a pod of the user's namespace as it is now.
func (u user) pod(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	require.NoError(t, json.Unmarshal([]byte(u.kubectl(t, "get", "pod", name, "-o", "json")), pod))
	return pod
}

// unschedulable is why the scheduler finds no node for a pod; empty if it does, or has not tried.
func unschedulable(pod *corev1.Pod) string {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && condition.Reason == corev1.PodReasonUnschedulable {
			return condition.Message
		}
	}
	return ""
}

// events are what was told about an object: reasons and notes.
func (w *world) events(ctx context.Context, about client.Object) []string {
	list := &corev1.EventList{}
	err := w.client.List(ctx, list, client.InNamespace(about.GetNamespace()), client.MatchingFields{"involvedObject.uid": string(about.GetUID())})
	if err != nil {
		return []string{err.Error()}
	}
	var told []string
	for i := range list.Items {
		told = append(told, list.Items[i].Reason+": "+list.Items[i].Message)
	}
	return told
}

// awaitEvent waits for an Event about an object that says this.
func (w *world) awaitEvent(t *testing.T, about client.Object, reason, message string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s has the Event %s", about.GetName(), reason), func(ctx context.Context) (bool, string) {
		told := w.events(ctx, about)
		return slices.Contains(told, reason+": "+message), strings.Join(told, "\n")
	})
}

func (w *world) osnp(ctx context.Context, namespace, name string) (*osnodev1.OpenStackNodePool, error) {
	pool := &osnodev1.OpenStackNodePool{}
	err := w.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, pool)
	return pool, err
}

// members are the OpenStackNodes of a pool, also those that are going.
func (w *world) members(ctx context.Context, namespace, pool string) ([]osnodev1.OpenStackNode, error) {
	list := &osnodev1.OpenStackNodeList{}
	err := w.client.List(ctx, list, client.InNamespace(namespace), client.MatchingLabels{osnodev1.LabelPool: pool})
	return list.Items, err
}

// describe says in a few words how nodes are.
func describe(nodes []osnodev1.OpenStackNode, err error) string {
	var lines []string
	for i := range nodes {
		lines = append(lines, fmt.Sprintf("%s: %s: %s", nodes[i].Name, nodes[i].Status.Phase, nodes[i].Status.Description))
	}
	return fmt.Sprint(strings.Join(lines, "\n"), " ", err)
}

// privatePool and sharedPool are the values of the protected label of a user's private nodes, and of a project's shared ones.
func (w *world) privatePool(t *testing.T, name string) string {
	t.Helper()
	known, err := w.cloud.User(name)
	require.NoError(t, err)
	return "u-" + known.ID
}

func (w *world) sharedPool(t *testing.T, project string) string {
	t.Helper()
	known, err := w.cloud.Project(project)
	require.NoError(t, err)
	return "p-" + known.ID
}

// clean deletes objects at the end of the test, and waits until they are gone, with what they own. A test that has gone
// well has left little.
func (w *world) clean(t *testing.T, objects ...client.Object) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		for _, object := range objects {
			err := w.client.Delete(ctx, object, client.PropagationPolicy(metav1.DeletePropagationForeground))
			assert.NoError(t, client.IgnoreNotFound(err))
		}
		for _, object := range objects {
			for err := error(nil); ctx.Err() == nil && !apierrors.IsNotFound(err); time.Sleep(interval) {
				err = w.client.Get(ctx, client.ObjectKeyFromObject(object), object)
			}
		}
		assert.NoError(t, ctx.Err(), "all was removed in time")
	})
}

func emptyPod(namespace, name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

func emptyNode(namespace, name string) *osnodev1.OpenStackNode {
	return &osnodev1.OpenStackNode{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

func emptyPool(namespace, name string) *osnodev1.OpenStackNodePool {
	return &osnodev1.OpenStackNodePool{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}
