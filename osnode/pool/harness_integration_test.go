// SPDX-License-Identifier: Apache-2.0

//go:build integration

package pool_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab/kubetest"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/pool"
	"github.com/cloudveneto/caas/osnode/pool/pooltest"
)

const (
	patience = 40 * time.Second
	step     = 50 * time.Millisecond
)

var (
	shared = kubetest.NewShared(kubetest.Options{ControllerManager: true, Scheduler: true})
	crds   sync.Once
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	shared.Main(m)
}

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(s))
	require.NoError(t, osnodev1.AddToScheme(s))
	return s
}

// world is a namespace of a real cluster, with pools' controllers and machines of its own.
type world struct {
	t         *testing.T
	client    client.Client
	cluster   *kubetest.Cluster
	cloud     *pooltest.Cloud
	machines  *machines
	namespace string
	timers    pool.Timers
	pools     *pool.Pools
	stop      func()
}

func newWorld(t *testing.T, namespace string) *world {
	t.Helper()
	cluster := shared.Cluster(t)
	c, err := client.New(cluster.RESTConfig(), client.Options{Scheme: scheme(t)})
	require.NoError(t, err)
	crds.Do(func() { installCRDs(t, c) })
	w := &world{
		t: t, client: c, cluster: cluster, cloud: pooltest.NewCloud(), namespace: namespace,
		timers: pool.Timers{
			PendingAge: time.Second, BatchIdle: 100 * time.Millisecond, BatchMost: time.Second, Rescan: 500 * time.Millisecond,
			Retire: 300 * time.Millisecond, Settle: 20 * time.Second, BackoffFirst: 3 * time.Second, BackoffMost: 12 * time.Second,
			FlavorAge: time.Second,
		},
	}
	require.NoError(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: namespace, Labels: map[string]string{osnodev1.LabelProjectID: "project-" + namespace, "tier": "tenant"},
	}}))
	w.serviceAccount()
	w.machines = startMachines(t, w)
	w.start()
	return w
}

func installCRDs(t *testing.T, c client.Client) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/osnode/crds/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		crd := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal(text, &crd.Object))
		require.NoError(t, c.Create(t.Context(), crd))
	}
	require.Eventually(t, func() bool {
		return c.List(t.Context(), &osnodev1.OpenStackNodePoolList{}) == nil && c.List(t.Context(), &osnodev1.OpenStackNodeList{}) == nil
	}, patience, step)
}

func (w *world) serviceAccount() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		return w.client.Get(w.t.Context(), types.NamespacedName{Namespace: w.namespace, Name: "default"}, &corev1.ServiceAccount{}) == nil
	}, patience, step)
}

// start runs the controllers; it may be called again after stop.
func (w *world) start() {
	w.t.Helper()
	manager, err := ctrl.NewManager(w.cluster.RESTConfig(), ctrl.Options{
		Scheme: scheme(w.t), Logger: logr.Discard(), Metrics: server.Options{BindAddress: "0"},
		Cache:      cache.Options{DefaultNamespaces: map[string]cache.Config{w.namespace: {}, w.namespace + "-user": {}}},
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	require.NoError(w.t, err)
	w.pools, err = pool.New(pool.Config{
		Client: manager.GetClient(), Reader: manager.GetAPIReader(), Recorder: manager.GetEventRecorder("openstacknodepool"),
		Cloud: w.cloud, DefaultProvider: pooltest.Provider, Timers: w.timers,
	})
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	require.NoError(w.t, w.pools.SetupWithManager(ctx, manager))
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w.t, <-ended)
	})
	w.t.Cleanup(w.stop)
	require.True(w.t, manager.GetCache().WaitForCacheSync(ctx))
}

func (w *world) pool(name string, change func(*osnodev1.OpenStackNodePool)) *osnodev1.OpenStackNodePool {
	w.t.Helper()
	p := &osnodev1.OpenStackNodePool{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: map[string]string{
			osnodev1.LabelUserID: "user-" + w.namespace, osnodev1.LabelUserName: "zangrand-at-infn.it",
			osnodev1.LabelProjectID: "project-" + w.namespace, osnodev1.LabelProjectName: "CMS",
		}},
		Spec: osnodev1.OpenStackNodePoolSpec{
			Flavors: []string{"medium"}, Template: osnodev1.NodeTemplate{KeyPair: "lisa", Policy: osnodev1.PolicyPrivate},
			Autoscaling: &osnodev1.Autoscaling{Enabled: true, Max: 5, IdleTTL: &metav1.Duration{Duration: 2 * time.Second}},
		},
	}
	if change != nil {
		change(p)
	}
	require.NoError(w.t, w.client.Create(w.t.Context(), p))
	return p
}

func (w *world) poolState(name string) *osnodev1.OpenStackNodePool {
	w.t.Helper()
	var p osnodev1.OpenStackNodePool
	require.NoError(w.t, w.client.Get(w.t.Context(), types.NamespacedName{Namespace: w.namespace, Name: name}, &p))
	return &p
}

// change patches a pool.
func (w *world) change(name string, change func(*osnodev1.OpenStackNodePool)) {
	w.t.Helper()
	p := w.poolState(name)
	before := p.DeepCopy()
	change(p)
	require.NoError(w.t, w.client.Patch(w.t.Context(), p, client.MergeFrom(before)))
}

// nodes are the OpenStackNodes that stay.
func (w *world) nodes() []osnodev1.OpenStackNode {
	w.t.Helper()
	var list osnodev1.OpenStackNodeList
	require.NoError(w.t, w.client.List(context.WithoutCancel(w.t.Context()), &list, client.InNamespace(w.namespace)))
	var alive []osnodev1.OpenStackNode
	for _, osn := range list.Items {
		if osn.DeletionTimestamp.IsZero() {
			alive = append(alive, osn)
		}
	}
	return alive
}

func (w *world) flavors() map[string]int {
	count := map[string]int{}
	for _, osn := range w.nodes() {
		count[osn.Spec.Flavor]++
	}
	return count
}

// pod makes a pod as admission would let it be: for the owner's private nodes.
func (w *world) pod(name, cpu string) *corev1.Pod {
	return w.podIn(w.namespace, name, cpu)
}

func (w *world) podIn(namespace, name, cpu string) *corev1.Pod {
	w.t.Helper()
	p := w.template(name, cpu)
	p.Namespace = namespace
	require.NoError(w.t, w.client.Create(w.t.Context(), p))
	return p
}

// template is such a pod that is not made yet.
func (w *world) template(name, cpu string) *corev1.Pod {
	value := "u-user-" + w.namespace
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(0)),
			NodeSelector:                  map[string]string{osnodev1.NodeLabelPool: value},
			Tolerations:                   []corev1.Toleration{{Key: osnodev1.TaintPool, Operator: corev1.TolerationOpEqual, Value: value, Effect: corev1.TaintEffectNoSchedule}},
			Containers: []corev1.Container{{Name: "main", Image: "example.org/image", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)},
			}}},
		},
	}
}

func (w *world) scheduled() int {
	w.t.Helper()
	var pods corev1.PodList
	require.NoError(w.t, w.client.List(w.t.Context(), &pods, client.InNamespace(w.namespace)))
	count := 0
	for i := range pods.Items {
		if pods.Items[i].Spec.NodeName != "" {
			count++
		}
	}
	return count
}

func (w *world) deletePods() {
	w.t.Helper()
	require.NoError(w.t, w.client.DeleteAllOf(w.t.Context(), &corev1.Pod{}, client.InNamespace(w.namespace), client.GracePeriodSeconds(0)))
}

// events are the notes of all events of a reason.
func (w *world) events(reason string) []string {
	w.t.Helper()
	var list corev1.EventList
	require.NoError(w.t, w.client.List(w.t.Context(), &list, client.InNamespace(w.namespace)))
	var notes []string
	for i := range list.Items {
		if list.Items[i].Reason == reason {
			notes = append(notes, list.Items[i].Message)
		}
	}
	return notes
}

// told counts the events of a reason by what they are about.
func (w *world) told(reason string) map[string]int {
	w.t.Helper()
	var list corev1.EventList
	require.NoError(w.t, w.client.List(w.t.Context(), &list, client.InNamespace(w.namespace)))
	count := map[string]int{}
	for i := range list.Items {
		if list.Items[i].Reason == reason {
			count[list.Items[i].InvolvedObject.Name]++
		}
	}
	return count
}

func (w *world) eventually(condition func() bool, what string) {
	w.t.Helper()
	require.Eventually(w.t, condition, patience, step, what)
}

// never fails if condition becomes true within some seconds.
func (w *world) never(condition func() bool, what string) {
	w.t.Helper()
	// require.Never may leave a look under way that fails when the test has ended.
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(step) {
		require.False(w.t, condition(), what)
	}
}
