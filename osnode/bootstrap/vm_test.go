// SPDX-License-Identifier: Apache-2.0

//go:build vm

package bootstrap_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/lab/nodeimage"
	"github.com/cloudveneto/caas/osnode/bootstrap"
)

const (
	nodeID = "vm-01-1696949601872"
	// What QEMU's own network gives to its one machine, and where it finds the host's
	// loopback addresses.
	vmAddress, vmGateway = "10.0.2.15", "10.0.2.2"
	vmMAC                = "52:54:00:12:34:56"
	pause                = "registry.k8s.io/pause:3.10.1"
	// bootTimeout is generous: the machine is emulated, maybe on a busy host.
	bootTimeout = 8 * time.Minute
)

// machine is a virtual machine with the node image, and a second disk that is empty.
type machine struct {
	dir   string
	image nodeimage.Image
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s: %s", name, output)
}

func newMachine(t *testing.T, userData []byte) *machine {
	t.Helper()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img", "genisoimage"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s: install the packages qemu-system-x86, qemu-utils and genisoimage", program)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("building the node image needs root")
	}
	built, err := nodeimage.Build(t.Context(), nodeimage.Config{VM: true})
	require.NoError(t, err)
	m := &machine{dir: t.TempDir(), image: built}
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", built.Disk, "-F", "qcow2", m.path("root.qcow2"), "6G")
	run(t, "truncate", "--size=3G", m.path("data.raw"))
	m.writeConfigDrive(t, userData)
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// writeConfigDrive makes what Nova attaches to a server.
func (m *machine) writeConfigDrive(t *testing.T, userData []byte) {
	t.Helper()
	latest := m.path("drive/openstack/latest")
	require.NoError(t, os.MkdirAll(latest, 0o700))
	for name, value := range map[string]any{
		"meta_data.json": map[string]any{
			"uuid": "5c1f3bd1-6a66-4f4e-8a3c-0f0c6a0e4a11", "hostname": "vm-01.novalocal", "name": "vm-01", "availability_zone": "nova",
		},
		"network_data.json": map[string]any{
			"links": []any{map[string]any{"id": "tap0", "type": "ovs", "ethernet_mac_address": vmMAC, "mtu": 1500}},
			"networks": []any{map[string]any{
				"id": "network0", "type": "ipv4", "link": "tap0", "ip_address": vmAddress, "netmask": "255.255.255.0",
				"routes":     []any{map[string]any{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": vmGateway}},
				"network_id": "6e1a2b6f-3b7b-4a39-9f0a-93f4d6b0a5c2",
			}},
			"services": []any{map[string]any{"type": "dns", "address": "10.0.2.3"}},
		},
	} {
		data, err := json.Marshal(value)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(latest, name), data, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(latest, "user_data"), userData, 0o600))
	run(t, "genisoimage", "-quiet", "-V", "config-2", "-J", "-r", "-o", m.path("drive.iso"), m.path("drive"))
}

// start turns the machine on; it is off after stop, and at the test's end.
func (m *machine) start(t *testing.T, console string, more ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	command := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048", "-display", "none", "-monitor", "none", "-no-reboot",
		"-serial", "file:" + m.path(console),
		"-drive", "if=virtio,format=qcow2,file=" + m.path("root.qcow2"),
		"-drive", "if=virtio,format=raw,file=" + m.path("data.raw"),
		"-drive", "media=cdrom,format=raw,file=" + m.path("drive.iso"),
		"-nic", "user,model=virtio-net-pci,mac=" + vmMAC, "-device", "virtio-rng-pci",
	}, more...)...)
	require.NoError(t, command.Start())
	stop = func() {
		cancel()
		_ = command.Wait()
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s:\n%s", console, m.console(console))
		}
	})
	return stop
}

func (m *machine) console(name string) string {
	data, _ := os.ReadFile(m.path(name))
	return string(data)
}

// site is what a site adds: here, where the API server is, and the pods' network.
const site = `#cloud-config
write_files:
- path: /etc/cni/net.d/10-test.conflist
  content: |
    {"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
      "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.201.1.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
runcmd:
- [sh, -c, "echo '` + vmGateway + ` kubernetes.default' >>/etc/hosts"]
- [sh, -c, "echo SITE kubelet is $(systemctl is-active kubelet) >/dev/ttyS0"]
`

// mine says on the console how the machine is when the platform is done with it.
const mine = `#!/bin/sh
{
  echo "USER kubelet is $(systemctl is-active kubelet), proxy is $(systemctl is-enabled kube-proxy)"
  for dir in containerd kubelet; do echo "USER $dir on $(findmnt -nro FSTYPE,SOURCE "/var/lib/$dir")"; done
  echo "USER root has $(df -BG --output=size / | tail -1 | tr -d ' ')"
  echo "USER token file is $(stat -c %a /etc/kubernetes/bootstrap-kubelet.conf)"
  echo "USER arguments are $(tr '\0' ' ' </proc/$(pgrep -x kubelet)/cmdline)"
  echo "USER metadata is $(nft list table inet osn_metadata | grep -c drop)"
  echo "USER images are $(ls /var/lib/containerd/osn-images)"
  echo USER grüße
} >/dev/ttyS0
`

// TestMachine boots the node image with our user data until a pod runs on the node, with
// every part real but the cloud; and turns the machine off and on again.
func TestMachine(t *testing.T) {
	cluster := kubetest.Start(t, kubetest.Options{ControllerManager: true})
	client := cluster.Client()
	joinable(t, cluster, client)
	server, err := url.Parse(cluster.ControlPlane().Server())
	require.NoError(t, err)
	ca, err := os.ReadFile(cluster.ControlPlane().CAFile())
	require.NoError(t, err)
	config := bootstrap.Settings{
		Server: "https://kubernetes.default:" + server.Port(), CAData: string(ca), ClusterDNS: []string{"10.96.0.10"},
		SystemReserved: map[string]string{"memory": "200Mi"}, KubeProxy: map[string]any{"mode": "nftables"},
		BlockMetadata: true, ExtraUserData: site,
	}
	require.NoError(t, config.Validate())
	userData, err := bootstrap.UserData(config, bootstrap.Node{NodeID: nodeID, Token: token, UserData: mine})
	require.NoError(t, err)

	m := newMachine(t, userData)
	began := time.Now()
	stop := m.start(t, "first.log")
	await(t, "Node Ready", func() bool { return ready(t, client, "") })
	t.Logf("Ready after %s", time.Since(began).Round(100*time.Millisecond))
	await(t, "end of user data", func() bool { return strings.Contains(m.console("first.log"), "USER grüße") })
	console := m.console("first.log")
	for _, want := range []string{
		"SITE kubelet is inactive", "USER kubelet is active, proxy is enabled",
		"USER containerd on xfs /dev/vdb[/containerd]", "USER kubelet on xfs /dev/vdb[/kubelet]", "USER root has 6G", "USER token file is 600",
		"--config=/etc/kubernetes/kubelet.yaml --config-dir=/etc/kubernetes/kubelet.conf.d", "--hostname-override=" + nodeID,
		"USER metadata is 2", "USER images are pause.tar",
	} {
		assert.Contains(t, console, want)
	}
	assert.NotContains(t, console, token)

	_, err = client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod"},
		Spec: corev1.PodSpec{
			NodeName: nodeID, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{Name: "c", Image: pause}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	await(t, "pod", func() bool {
		pod, err := client.CoreV1().Pods("default").Get(t.Context(), "pod", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning && strings.HasPrefix(pod.Status.PodIP, "10.201.1.")
	})
	node, err := client.CoreV1().Nodes().Get(t.Context(), nodeID, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "openstack://regionOne/vm-01", node.Spec.ProviderID)
	allocatable, capacity := node.Status.Allocatable.Memory().Value(), node.Status.Capacity.Memory().Value()
	assert.GreaterOrEqual(t, capacity-allocatable, int64(200<<20), "the system has its share")

	// Without its boot loader, this time.
	stop()
	began = time.Now()
	m.start(t, "second.log", "-kernel", m.image.Kernel, "-initrd", m.image.Initrd, "-append", nodeimage.KernelArguments())
	await(t, "Node Ready again", func() bool { return ready(t, client, node.Status.NodeInfo.BootID) })
	t.Logf("Ready again after %s", time.Since(began).Round(100*time.Millisecond))
	assert.NotContains(t, m.console("second.log"), "USER", "user data runs once")
}

// TestEphemeralDisk boots without a cluster: a site that starts nothing, and a flavor's
// ephemeral disk as Nova formats it, beside another one that is empty.
func TestEphemeralDisk(t *testing.T) {
	config := settings(t)
	config.Mode, config.DataDisk.Filesystem = bootstrap.ModeNone, "ext4"
	userData, err := bootstrap.UserData(config, bootstrap.Node{NodeID: nodeID, Token: token, UserData: `#cloud-config
users:
- default
- {name: physicist, shell: /bin/bash}
runcmd:
- [sh, -c, "echo USER $(id -un physicist) $(blkid -o value -s LABEL /dev/vdb) $(findmnt -nro FSTYPE,SOURCE /var/lib/containerd) >/dev/ttyS0"]
- [sh, -c, "echo USER kubelet is $(systemctl is-active kubelet), swap has $(wc -l </proc/swaps) line, mounts are $(grep -c /mnt /proc/mounts) >/dev/ttyS0"]
- [sh, -c, "echo USER end >/dev/ttyS0"]
`})
	require.NoError(t, err)
	m := newMachine(t, userData)
	run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "ephemeral0", m.path("data.raw"))
	run(t, "truncate", "--size=2G", m.path("empty.raw"))
	m.start(t, "console.log", "-drive", "if=virtio,format=raw,file="+m.path("empty.raw"))
	await(t, "end of user data", func() bool { return strings.Contains(m.console("console.log"), "USER end") })
	console := m.console("console.log")
	assert.Contains(t, console, "USER physicist osn-data ext4 /dev/vdb[/containerd]")
	assert.Contains(t, console, "USER kubelet is inactive, swap has 1 line, mounts are 0")
}

// joinable lets the machine in: its token, its Node, and the approval of its certificates.
func joinable(t *testing.T, cluster *kubetest.Cluster, client kubernetes.Interface) {
	t.Helper()
	require.NoError(t, kube.AllowBootstrap(t.Context(), client, token))
	_, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeID}, Spec: corev1.NodeSpec{ProviderID: "openstack://regionOne/vm-01"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	approver := kube.Approver{
		Client: client, Bootstrapper: kube.BootstrapUser(token), Logger: slog.New(slog.DiscardHandler),
		Addresses: func(node string) []string {
			if node != nodeID {
				return nil
			}
			return []string{vmAddress}
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- approver.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
	assert.NotEmpty(t, cluster.Dir)
}

// ready tells whether the Node is Ready in another boot than the one given.
func ready(t *testing.T, client kubernetes.Interface, notBoot string) bool {
	t.Helper()
	node, err := client.CoreV1().Nodes().Get(t.Context(), nodeID, metav1.GetOptions{})
	if err != nil || node.Status.NodeInfo.BootID == "" || node.Status.NodeInfo.BootID == notBoot {
		return false
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	require.Eventually(t, done, bootTimeout, 500*time.Millisecond, fmt.Sprintf("no %s", what))
}
