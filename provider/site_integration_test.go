// SPDX-License-Identifier: Apache-2.0

//go:build integration

package provider_test

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	"golang.org/x/sync/errgroup"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider"
	"github.com/cloudveneto/caas/provider/bundle"
	"github.com/cloudveneto/caas/provider/kubeletport"
	"github.com/cloudveneto/caas/provider/providertest"
	"github.com/cloudveneto/caas/provider/settings"
	"github.com/cloudveneto/caas/provider/virtualnode"
)

var shared = kubetest.NewShared(kubetest.Options{ControllerManager: true, Scheduler: true})

func TestMain(m *testing.M) { shared.Main(m) }

// account is the ServiceAccount of deploy/virtual-kubelet.
const account = "system:serviceaccount:interlink:virtual-kubelet"

const longPatience = 40 * time.Second

// site is a real origin with one virtual kubelet, running with a node's identity.
type site struct {
	t         *testing.T
	cluster   *kubetest.Cluster
	admin     *kubernetes.Clientset
	far       *providertest.Far
	name      string
	namespace string
	listening int32
	// identity is the virtual kubelet's; nil is a node's.
	identity *rest.Config
	// silence is how long a pod may stay without a status; zero is the default.
	silence time.Duration

	mu       sync.Mutex
	requests map[string]int
	stop     func()
}

func newSite(t *testing.T, name string, options providertest.Options) *site {
	t.Helper()
	cluster := shared.Cluster(t)
	s := &site{t: t, cluster: cluster, admin: cluster.Client(), far: providertest.Start(t, options), name: name, namespace: name}
	_, err := s.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	s.until("default service account", func() bool {
		_, err := s.admin.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	return s
}

// up starts the virtual kubelet; s.stop ends it.
func (s *site) up() {
	s.t.Helper()
	config := s.identity
	if config == nil {
		var err error
		config, err = clientcmd.BuildConfigFromFlags("", s.cluster.Kubeconfig("system:node:"+s.name, "system:nodes"))
		require.NoError(s.t, err)
	}
	config.QPS = -1
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return counting{next, s} })
	client, err := kubernetes.NewForConfig(config)
	require.NoError(s.t, err)
	level := slog.LevelWarn
	if os.Getenv("TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: level}))
	ctx, cancel := context.WithCancel(logging.Into(context.WithoutCancel(s.t.Context()), logger))
	events := record.NewBroadcaster()
	events.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: client.CoreV1().Events("")})
	recorder := events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "virtual-kubelet", Host: s.name})
	far := s.far.Client(s.t)
	var pods *provider.Provider
	loaded := s.settings()
	node, err := virtualnode.New(virtualnode.Config{
		Client: client, Far: far, Name: s.name, Address: "127.0.0.1", Port: s.port(), Labels: loaded.Node.Labels,
		Taints: loaded.Node.Taints, Capacity: loaded.Node.Capacity, Version: "v0.0.0-test",
		OnPing: func(answer interlink.PingResponse) { pods.Offer(answer) },
	})
	require.NoError(s.t, err)
	collector, err := bundle.New(bundle.Config{Client: client, Recorder: recorder, Allocatable: node.Allocatable})
	require.NoError(s.t, err)
	pods, err = provider.New(provider.Config{
		NodeName: s.name, ClusterID: clusterID, Client: client, FarEnd: far, Bundler: collector, Recorder: recorder,
		OnNode: node.Offer, StatusInterval: 100 * time.Millisecond, FirstStatusAfter: s.silence,
	})
	require.NoError(s.t, err)
	authority, err := s.admin.CoreV1().ConfigMaps("kube-system").Get(s.t.Context(), "extension-apiserver-authentication", metav1.GetOptions{})
	require.NoError(s.t, err)
	port, err := kubeletport.New(ctx, kubeletport.Config{
		Address: net.JoinHostPort("127.0.0.1", portText(s.port())), NodeName: s.name, NodeAddress: "127.0.0.1", Client: client,
		Certificate: kubeletport.Certificate{SignerName: certificatesv1.KubeletServingSignerName, Dir: s.t.TempDir()},
		ClientCAs:   []byte(authority.Data["client-ca-file"]),
		Routes:      api.PodHandlerConfig{GetContainerLogs: pods.GetContainerLogs, GetPods: pods.GetPods, GetPodsFromKubernetes: pods.GetPods},
	})
	require.NoError(s.t, err)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return node.Run(ctx) })
	group.Go(func() error { return pods.Run(ctx) })
	group.Go(func() error { return port.Run(ctx) })
	stopped := false
	s.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(s.t, group.Wait())
			events.Shutdown()
		}
	}
	s.t.Cleanup(s.stop)
	s.until("the certificate is requested", func() bool { return s.approve(ctx) })
	s.until("the node is ready", func() bool {
		node, err := s.admin.CoreV1().Nodes().Get(s.t.Context(), s.name, metav1.GetOptions{})
		return err == nil && condition(node, corev1.NodeReady) == corev1.ConditionTrue
	})
}

// port is a port that was free; a restarted virtual kubelet uses it again.
func (s *site) port() int32 {
	s.t.Helper()
	if s.listening == 0 {
		listener, err := (&net.ListenConfig{}).Listen(s.t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(s.t, err)
		address, ok := listener.Addr().(*net.TCPAddr)
		require.True(s.t, ok)
		s.listening = int32(address.Port)
		require.NoError(s.t, listener.Close())
	}
	return s.listening
}

func portText(port int32) string { return strconv.Itoa(int(port)) }

// counting counts the virtual kubelet's requests about the site's namespace.
type counting struct {
	next http.RoundTripper
	site *site
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/"); len(parts) > 4 && parts[3] == c.site.namespace {
		what := r.Method + " " + parts[4]
		if len(parts) > 6 {
			what += "/" + parts[6]
		}
		c.site.mu.Lock()
		if c.site.requests == nil {
			c.site.requests = map[string]int{}
		}
		c.site.requests[what]++
		c.site.mu.Unlock()
	}
	return c.next.RoundTrip(r)
}

func (s *site) counted() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.requests)
}

// approve approves the node's request for a serving certificate, as an operator does.
func (s *site) approve(ctx context.Context) bool {
	s.t.Helper()
	requests := s.admin.CertificatesV1().CertificateSigningRequests()
	list, err := requests.List(ctx, metav1.ListOptions{})
	require.NoError(s.t, err)
	approved := false
	for i := range list.Items {
		request := &list.Items[i]
		if !slices.Contains([]string{"system:node:" + s.name, account}, request.Spec.Username) || len(request.Status.Conditions) > 0 {
			continue
		}
		request.Status.Conditions = append(request.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test",
		})
		_, err := requests.UpdateApproval(ctx, request.Name, request, metav1.UpdateOptions{})
		require.NoError(s.t, err)
		approved = true
	}
	return approved
}

// settings are the defaults of a configuration file.
func (s *site) settings() *settings.Settings {
	s.t.Helper()
	path := s.t.TempDir() + "/config.yaml"
	require.NoError(s.t, os.WriteFile(path, []byte("InterlinkURL: "+s.far.URL()+"\n"), 0o600))
	loaded, err := settings.Load(path, settings.Environment{NodeName: s.name})
	require.NoError(s.t, err)
	return loaded
}

func condition(node *corev1.Node, kind corev1.NodeConditionType) corev1.ConditionStatus {
	for _, c := range node.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}

// template is a pod spec that is placed on the site's node.
func (s *site) template(edits ...func(*corev1.PodSpec)) corev1.PodSpec {
	spec := corev1.PodSpec{
		NodeSelector:                  map[string]string{corev1.LabelHostname: s.name},
		Tolerations:                   []corev1.Toleration{{Key: settings.TaintKey, Operator: corev1.TolerationOpExists}},
		Containers:                    []corev1.Container{{Name: "main", Image: "busybox"}},
		RestartPolicy:                 corev1.RestartPolicyNever,
		TerminationGracePeriodSeconds: new(int64(30)),
	}
	for _, edit := range edits {
		edit(&spec)
	}
	return spec
}

func (s *site) run(name string, edits ...func(*corev1.PodSpec)) types.UID {
	s.t.Helper()
	pod, err := s.admin.CoreV1().Pods(s.namespace).Create(s.t.Context(),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: s.template(edits...)}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	return pod.UID
}

func (s *site) pod(name string) *corev1.Pod {
	s.t.Helper()
	pod, err := s.admin.CoreV1().Pods(s.namespace).Get(s.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(s.t, err)
	return pod
}

func (s *site) until(what string, check func() bool) {
	s.t.Helper()
	require.Eventually(s.t, check, longPatience, 20*time.Millisecond, what)
}

func (s *site) untilPhase(name string, phase corev1.PodPhase) *corev1.Pod {
	s.t.Helper()
	s.until(name+" is "+string(phase), func() bool { pod := s.pod(name); return pod != nil && pod.Status.Phase == phase })
	return s.pod(name)
}

func (s *site) apply(object runtime.Object) {
	s.t.Helper()
	var err error
	ctx, options := s.t.Context(), metav1.CreateOptions{}
	switch o := object.(type) {
	case *corev1.Namespace:
		_, err = s.admin.CoreV1().Namespaces().Create(ctx, o, options)
	case *corev1.ServiceAccount:
		_, err = s.admin.CoreV1().ServiceAccounts(o.Namespace).Create(ctx, o, options)
	case *rbacv1.ClusterRole:
		_, err = s.admin.RbacV1().ClusterRoles().Create(ctx, o, options)
	case *rbacv1.ClusterRoleBinding:
		_, err = s.admin.RbacV1().ClusterRoleBindings().Create(ctx, o, options)
	case *rbacv1.Role:
		_, err = s.admin.RbacV1().Roles(o.Namespace).Create(ctx, o, options)
	case *rbacv1.RoleBinding:
		_, err = s.admin.RbacV1().RoleBindings(o.Namespace).Create(ctx, o, options)
	default:
		require.Failf(s.t, "manifest", "%T is not expected", object)
	}
	if !apierrors.IsAlreadyExists(err) { // tests share the cluster
		require.NoError(s.t, err)
	}
}
