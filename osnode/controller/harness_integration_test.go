// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	deployed "github.com/cloudveneto/caas/deploy/osnode"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/controller"
	"github.com/cloudveneto/caas/osnode/controller/controllertest"
	"github.com/cloudveneto/caas/osnode/node"
)

const (
	clusterName = "test-cluster"
	owner       = "user-1"
)

var (
	shared  = kubetest.NewShared(kubetest.Options{})
	install sync.Once
	worlds  atomic.Int64
)

func TestMain(m *testing.M) { shared.Main(m) }

// world is a namespace bound to a project, an OpenStack of its own, and a controller
// that takes its passes when the test says so, at the time that the test says it is.
type world struct {
	t          *testing.T
	client     client.WithWatch
	cloud      *controllertest.Cloud
	reconciler *controller.Reconciler
	registry   *prometheus.Registry
	namespace  string
	project    string

	mu     sync.Mutex
	time   time.Time
	events []string
	data   []string
}

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, clientscheme.AddToScheme(scheme))
	require.NoError(t, osnodev1.AddToScheme(scheme))
	return scheme
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cluster := shared.Cluster(t)
	c, err := client.NewWithWatch(cluster.RESTConfig(), client.Options{Scheme: newScheme(t)})
	require.NoError(t, err)
	install.Do(func() { installCRDs(t, c) })
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	name = name[max(0, len(name)-40):]
	w := &world{
		t: t, client: c, namespace: "ns-" + strings.Trim(name, "-"), project: "project-" + strings.Trim(name, "-"),
		// Nodes have no namespace, so no two worlds may begin in the same millisecond.
		time: time.Now().Truncate(100 * time.Millisecond).Add(time.Duration(worlds.Add(1)%100) * time.Millisecond),
	}
	w.cloud = controllertest.New(clusterName, w.now)
	w.cloud.Change(func(s *controllertest.State) { s.Trusting[owner] = true })
	require.NoError(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: w.namespace, Labels: map[string]string{osnodev1.LabelProjectID: w.project},
	}}))
	require.NoError(t, c.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "default"}}))
	w.restart()
	return w
}

func installCRDs(t *testing.T, c client.Client) {
	t.Helper()
	for _, name := range deployed.CRDs() {
		text, err := deployed.Read(name)
		require.NoError(t, err)
		crd := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal(text, &crd.Object))
		require.NoError(t, c.Create(t.Context(), crd))
	}
	require.Eventually(t, func() bool {
		return c.List(t.Context(), &osnodev1.OpenStackNodePoolList{}) == nil && c.List(t.Context(), &osnodev1.OpenStackNodeList{}) == nil
	}, 20*time.Second, 50*time.Millisecond)
}

func (w *world) config() controller.Config {
	return controller.Config{
		Client: w.client, Reader: w.client, Recorder: w, Cloud: w.cloud, UserData: w.userData,
		Cluster: clusterName, Namespace: w.namespace, DefaultProvider: controllertest.Provider, Clock: w.now,
	}
}

// restart makes a new controller, which remembers nothing.
func (w *world) restart() {
	w.t.Helper()
	w.registry = prometheus.NewRegistry()
	config := w.config()
	config.Metrics = w.registry
	made, err := controller.New(config)
	require.NoError(w.t, err)
	w.reconciler = made
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *world) sleep(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

func (w *world) userData(osn *osnodev1.OpenStackNode, token string) ([]byte, error) {
	if strings.Contains(*osn.Spec.UserData, "unreadable") {
		return nil, fmt.Errorf("user data: neither a script nor a cloud-config")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.data = append(w.data, osn.Status.NodeID+" "+token)
	return []byte(token), nil
}

// Eventf implements controller.Recorder.
func (w *world) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, kind+" "+reason+" "+fmt.Sprintf(note, args...))
}

// told is how many Events of a reason there were.
func (w *world) told(reason string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	count := 0
	for _, e := range w.events {
		if strings.Fields(e)[1] == reason {
			count++
		}
	}
	return count
}

func (w *world) osn(name string, change ...func(*osnodev1.OpenStackNode)) *osnodev1.OpenStackNode {
	w.t.Helper()
	osn := &osnodev1.OpenStackNode{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: map[string]string{
			osnodev1.LabelUserID: owner, osnodev1.LabelUserName: "zangrand-at-infn.it",
			osnodev1.LabelProjectID: w.project, osnodev1.LabelProjectName: "CMS",
		}},
		Spec: osnodev1.OpenStackNodeSpec{Flavor: controllertest.Flavor, KeyPair: "Lisa", Policy: osnodev1.PolicyPrivate},
	}
	for _, c := range change {
		c(osn)
	}
	require.NoError(w.t, w.client.Create(w.t.Context(), osn))
	return osn
}

func (w *world) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: w.namespace, Name: name}
}

func (w *world) get(name string) *osnodev1.OpenStackNode {
	w.t.Helper()
	osn := &osnodev1.OpenStackNode{}
	require.NoError(w.t, w.client.Get(w.t.Context(), w.key(name), osn))
	return osn
}

func (w *world) gone(name string) bool {
	w.t.Helper()
	err := w.client.Get(w.t.Context(), w.key(name), &osnodev1.OpenStackNode{})
	return apierrors.IsNotFound(err)
}

// pass takes one pass.
func (w *world) pass(name string) time.Duration {
	w.t.Helper()
	result, err := w.reconciler.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: w.key(name)})
	require.NoError(w.t, err)
	return result.RequeueAfter
}

// drive takes passes, and lets the time go by that the controller asks for, until.
func (w *world) drive(name string, until func() bool) {
	w.t.Helper()
	for range 200 {
		after := w.pass(name)
		if until() {
			return
		}
		if after == 0 {
			after = time.Second
		}
		w.sleep(after)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone(name) {
		require.Fail(w.t, "gone", w.events)
	}
	require.Fail(w.t, "does not get there", "%+v\n%s", w.get(name).Status, strings.Join(w.events, "\n"))
}

func (w *world) reaches(name string, phase osnodev1.Phase) *osnodev1.OpenStackNode {
	w.t.Helper()
	w.drive(name, func() bool { return w.get(name).Status.Phase == phase })
	return w.get(name)
}

// join makes the Node, as the approver of its certificate does.
func (w *world) join(name string) {
	w.t.Helper()
	made, err := node.For(w.get(name), nil)
	require.NoError(w.t, err)
	require.NoError(w.t, w.client.Create(w.t.Context(), made))
	nodeID := made.Name
	w.t.Cleanup(func() {
		_ = w.client.Delete(context.WithoutCancel(w.t.Context()), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeID}})
	})
}

// heartbeat has the kubelet say how it is.
func (w *world) heartbeat(name string, status corev1.ConditionStatus) {
	w.t.Helper()
	current := w.node(name)
	require.NotNil(w.t, current)
	before := current.DeepCopy()
	current.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: status, LastTransitionTime: metav1.NewTime(w.now()), LastHeartbeatTime: metav1.NewTime(w.now()),
	}}
	require.NoError(w.t, w.client.Status().Patch(w.t.Context(), current, client.MergeFrom(before)))
}

func (w *world) node(name string) *corev1.Node {
	w.t.Helper()
	current := &corev1.Node{}
	err := w.client.Get(w.t.Context(), types.NamespacedName{Name: w.get(name).Status.NodeID}, current)
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(w.t, err)
	return current
}

// running brings an OpenStackNode to Running.
func (w *world) running(name string, change ...func(*osnodev1.OpenStackNode)) *osnodev1.OpenStackNode {
	w.t.Helper()
	w.osn(name, change...)
	w.reaches(name, osnodev1.PhaseJoining)
	w.join(name)
	w.heartbeat(name, corev1.ConditionTrue)
	return w.reaches(name, osnodev1.PhaseRunning)
}

func (w *world) delete(name string) {
	w.t.Helper()
	require.NoError(w.t, w.client.Delete(w.t.Context(), w.get(name)))
}

func (w *world) annotate(name, key, value string) {
	w.t.Helper()
	osn := w.get(name)
	before := osn.DeepCopy()
	if osn.Annotations == nil {
		osn.Annotations = map[string]string{}
	}
	osn.Annotations[key] = value
	require.NoError(w.t, w.client.Patch(w.t.Context(), osn, client.MergeFrom(before)))
}

// tokens are the bootstrap token Secrets of an object.
func (w *world) tokens(uid types.UID) []corev1.Secret {
	w.t.Helper()
	list := &corev1.SecretList{}
	require.NoError(w.t, w.client.List(w.t.Context(), list, client.InNamespace(metav1.NamespaceSystem),
		client.MatchingLabels{"osn.infn.it/uid": string(uid)}))
	return list.Items
}

func outage() error {
	return &cloud.Error{Class: cloud.Unavailable, Message: "OpenStack does not answer"}
}
