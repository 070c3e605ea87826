// SPDX-License-Identifier: Apache-2.0

//go:build integration

package hypervisor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/network"
)

// TestIntegrationMachineJoins boots the node image with user data of the platform's shape:
// the machine's real kubelet joins a real cluster and runs a pod.
func TestIntegrationMachineJoins(t *testing.T) {
	machines, config := newMachines(t)
	plane, client := startPlane(t, config.LAN)
	token, err := kube.NewToken()
	require.NoError(t, err)
	require.NoError(t, kube.AllowBootstrap(t.Context(), client, token))
	runApprover(t, client, token)
	ca, err := os.ReadFile(plane.CAFile())
	require.NoError(t, err)

	server := newServer()
	server.Flavor.Ephemeral = 5
	server.UserData = []byte(joiningUserData(plane.Server(), string(ca), token))
	began := time.Now()
	require.NoError(t, machines.Spawn(t.Context(), server))
	dir := filepath.Join(config.Dir, server.UUID)
	t.Cleanup(func() {
		if t.Failed() {
			for _, unit := range []string{"kubelet", "containerd"} {
				text, _ := os.ReadFile(filepath.Join(dir, "log", unit+".service.log"))
				t.Logf("%s:\n%s", unit, text[max(0, len(text)-4000):])
			}
		}
	})
	awaitReady(t, client, "one")
	t.Logf("Ready after %s", time.Since(began))
	node, err := client.CoreV1().Nodes().Get(t.Context(), "one", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, int64(7), node.Status.Capacity.Cpu().Value(), "the flavor's processors")
	assert.Equal(t, int64(5000)<<20, node.Status.Capacity.Memory().Value(), "the flavor's memory")
	assert.Equal(t, "10.88.16.10", node.Status.Addresses[0].Address)

	runPod(t, client)
	t.Logf("pod Running after %s", time.Since(began))
	assert.Contains(t, inside(t, dir, "findmnt", "-nro", "SOURCE", "/var/lib/containerd"), "vdb", "the second disk has the images")

	require.NoError(t, machines.Reboot(t.Context(), server.UUID))
	awaitConsole(t, machines, server.UUID, "machine one is up", 2)
	assert.Contains(t, inside(t, dir, "findmnt", "-nro", "SOURCE", "/var/lib/containerd"), "vdb", "mounted at boot")
	assert.Equal(t, "active\n", inside(t, dir, "systemctl", "is-active", "kubelet"))
	require.NoError(t, machines.Destroy(t.Context(), server.UUID))
	assert.NoDirExists(t, dir)
}

func startPlane(t *testing.T, lan string) (*kube.ControlPlane, *kubernetes.Clientset) {
	t.Helper()
	binaries, err := kube.Build(t.Context(), gobuild.Config{})
	require.NoError(t, err)
	dial := network.Dialer(network.Path(lan))
	plane, err := kube.Start(t.Context(), kube.Config{
		Name: "test", Dir: filepath.Join(t.TempDir(), "plane"), BinDir: binaries, NetNS: network.Path(lan), Advertise: "10.88.0.1",
		Ports: kube.Ports{APIServer: 6443, Etcd: 2379, EtcdPeer: 2380}, ControllerManager: true, Scheduler: true, EndWithStarter: true, Dial: dial,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, plane.Kill()) })
	rest, err := plane.RESTConfig()
	require.NoError(t, err)
	rest.Dial = dial
	client, err := kubernetes.NewForConfig(rest)
	require.NoError(t, err)
	return plane, client
}

func joiningUserData(server, ca, token string) string {
	indent := func(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") }
	return fmt.Sprintf(`#cloud-config
mounts: [[ephemeral0, null], [swap, null]]
write_files:
- path: /etc/kubernetes/ca.crt
  content: |
    %s
- path: /etc/kubernetes/bootstrap-kubelet.conf
  permissions: "0600"
  content: |
    apiVersion: v1
    kind: Config
    current-context: x
    contexts: [{name: x, context: {cluster: c, user: u}}]
    users: [{name: u, user: {token: %q}}]
    clusters: [{name: c, cluster: {server: %q, certificate-authority: /etc/kubernetes/ca.crt}}]
- path: /etc/kubernetes/kubelet.yaml
  content: |
    apiVersion: kubelet.config.k8s.io/v1beta1
    kind: KubeletConfiguration
    authentication: {anonymous: {enabled: false}, x509: {clientCAFile: /etc/kubernetes/ca.crt}}
    clusterDomain: cluster.local
    clusterDNS: [10.96.0.10]
- path: /etc/kubernetes/kubelet.env
  content: KUBELET_EXTRA_ARGS=--hostname-override=one
- path: /etc/cni/net.d/10-test.conflist
  content: |
    {"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.201.50.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}]}
runcmd:
- mkfs.ext4 -q -F -L osn-data $(blkid -l -o device -t LABEL=ephemeral0)
- mkdir -p /var/lib/data
- echo "LABEL=osn-data /var/lib/data auto defaults,nofail 0 2" >> /etc/fstab
- echo "/var/lib/data/containerd /var/lib/containerd none bind,nofail 0 0" >> /etc/fstab
- systemctl stop containerd
- mount LABEL=osn-data /var/lib/data
- mkdir -p /var/lib/data/containerd /var/lib/containerd
- mount --bind /var/lib/data/containerd /var/lib/containerd
- systemctl daemon-reload
- systemctl enable --now containerd kubelet
`, indent(ca), token, server)
}

// runApprover approves the one node's client certificate.
func runApprover(t *testing.T, client kubernetes.Interface, token string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	requests := client.CertificatesV1().CertificateSigningRequests()
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
			all, err := requests.List(ctx, metav1.ListOptions{})
			if err != nil {
				continue
			}
			for _, request := range all.Items {
				if len(request.Status.Conditions) == 0 && kube.CheckClient(&request, kube.BootstrapUser(token), func(node string) bool { return node == "one" }) == nil {
					request.Status.Conditions = append(request.Status.Conditions, approved())
					_, _ = requests.UpdateApproval(ctx, request.Name, &request, metav1.UpdateOptions{}) // tried again
				}
			}
		}
	}()
}

func awaitReady(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		node, err := client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(c, err)
		ready := corev1.ConditionUnknown
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				ready = condition.Status
				assert.Equal(c, corev1.ConditionTrue, ready, condition.Message)
			}
		}
		assert.Equal(c, corev1.ConditionTrue, ready)
	}, 60*time.Second, 100*time.Millisecond)
}

// runPod runs a pod of the image that the node image brings.
func runPod(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(t.Context(), "default", metav1.GetOptions{})
		require.NoError(c, err)
	}, 30*time.Second, 50*time.Millisecond)
	_, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pause"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.k8s.io/pause:3.10.1", ImagePullPolicy: corev1.PullNever}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		pod, err := pods.Get(t.Context(), "pause", metav1.GetOptions{})
		require.NoError(c, err)
		assert.Equal(c, corev1.PodRunning, pod.Status.Phase, "%+v", pod.Status.ContainerStatuses)
		assert.True(c, strings.HasPrefix(pod.Status.PodIP, "10.201.50."), pod.Status.PodIP)
	}, 60*time.Second, 100*time.Millisecond)
}

func approved() certificatesv1.CertificateSigningRequestCondition {
	return certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test"}
}
