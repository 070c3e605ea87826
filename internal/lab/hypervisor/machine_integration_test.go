// SPDX-License-Identifier: Apache-2.0

//go:build integration

package hypervisor_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/hypervisor"
	"github.com/cloudveneto/caas/internal/lab/hypervisor/guest"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/nodeimage"
)

// TestMain makes the test's own program a machine's first process and its systemctl.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == guest.InitCommand {
		if err := guest.Init(context.Background(), os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == guest.SystemctlCommand {
		os.Exit(guest.Systemctl(context.Background(), os.Args[2:], os.Stdout, os.Stderr))
	}
	m.Run()
}

const userData = `#cloud-config
write_files:
- path: /etc/example/one
  content: hello
  permissions: "0640"
- path: /etc/systemd/system/tick.service
  content: |
    [Unit]
    Description=Ticks
    ConditionPathExists=/etc/example/one
    [Service]
    EnvironmentFile=-/etc/example/tick.env
    Environment=GREETING=hi
    ExecStart=/bin/sh -c 'echo ${GREETING} $NAME; echo started >> /var/lib/ticks; exec sleep 100000'
    Restart=always
    [Install]
    WantedBy=multi-user.target
users:
- name: ann
  shell: /bin/bash
runcmd:
- [sh, -c, "echo runcmd >> /var/lib/ran"]
- [sh, -c, "ip -4 -o addr show eth0 > /var/lib/address; hostname > /var/lib/name; nproc --all > /var/lib/nproc; grep MemTotal /proc/meminfo > /var/lib/memory"]
- systemctl daemon-reload
- systemctl enable --now tick
- systemctl is-active tick > /var/lib/active
- echo all done
`

func newServer() hypervisor.Server {
	return hypervisor.Server{
		UUID: uuid.NewString(), Name: "one", Hostname: "one", Flavor: hypervisor.Flavor{Name: "big", VCPUs: 7, RAM: 5000, Ephemeral: 3},
		KeyName: "my-key", KeyData: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJbd6bZc8B4QO1RkQ0OWkQ6kYb0r1fHnqOEoTR0eTxP test",
		Metadata: map[string]string{"osn.infn.it/uid": "u"}, UserData: []byte(userData),
		NICs: []hypervisor.NIC{{MAC: "fa:16:3e:00:00:01", IPs: []netip.Prefix{netip.MustParsePrefix("10.88.16.10/20")}, Gateway: "10.88.16.1", Network: "CMS-lan"}},
	}
}

// newMachines returns a driver with a LAN of its own.
func newMachines(t *testing.T) (*hypervisor.Machines, hypervisor.Config) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: machines need root")
	}
	lab := "hv" + strconv.Itoa(os.Getpid())
	dir := t.TempDir()
	config := hypervisor.Config{
		Lab: lab, Dir: filepath.Join(dir, "machines"), LAN: "caas-" + lab, Root: imageRoot(t), EndWithStarter: true,
		PodSubnet: func(server netip.Addr) (netip.Prefix, bool) {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 201, 40 + server.As4()[3], 0}), 24), true
		},
	}
	require.NoError(t, network.Create(t.Context(), network.Config{Name: config.LAN, Extra: []netip.Prefix{netip.MustParsePrefix("10.88.16.1/20")}}))
	machines, err := hypervisor.NewMachines(config)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if all, err := machines.List(); err == nil && t.Failed() {
			for _, one := range all {
				text, _ := os.ReadFile(filepath.Join(one.Dir, "console.log"))
				t.Logf("console:\n%s", text)
			}
		}
		require.NoError(t, machines.StopAll(ctx))
		require.NoError(t, network.Delete(ctx, config.LAN))
	})
	return machines, config
}

func TestIntegrationMachine(t *testing.T) {
	machines, config := newMachines(t)
	server := newServer()
	before := hostView(t)
	began := time.Now()
	require.NoError(t, machines.Spawn(t.Context(), server))
	t.Logf("spawn took %s", time.Since(began))
	require.NoError(t, machines.Spawn(t.Context(), server), "a machine that is there is left alone")
	dir := filepath.Join(config.Dir, server.UUID)
	awaitConsole(t, machines, server.UUID, "machine one is up", 1)
	t.Logf("up after %s", time.Since(began))
	assert.Equal(t, before, hostView(t), "the real machine sees nothing of it")

	assert.Equal(t, "hello", read(t, dir, "etc/example/one"))
	assert.Equal(t, "runcmd\n", read(t, dir, "var/lib/ran"))
	assert.Equal(t, "active\n", read(t, dir, "var/lib/active"))
	assert.Contains(t, read(t, dir, "var/lib/address"), "10.88.16.10/20")
	assert.Equal(t, "one\n", read(t, dir, "var/lib/name"))
	assert.Equal(t, "MemTotal:        5120000 kB\n", read(t, dir, "var/lib/memory"))
	assert.Contains(t, read(t, dir, "etc/passwd"), "ann:")
	assert.Equal(t, "started\n", read(t, dir, "var/lib/ticks"))
	console, err := machines.Console(t.Context(), server.UUID)
	require.NoError(t, err)
	assert.Contains(t, string(console), "all done", "what user data prints is on the console")
	out := inside(t, dir, "sh", "-c", "ls -l /dev/vdb; blockdev --getsize64 /dev/vdb; systemctl is-enabled tick; systemctl show tick -p MainPID --value")
	t.Log(out)
	assert.Contains(t, out, strconv.Itoa(3<<30))
	assert.Contains(t, out, "enabled")
	_, err = network.Dial(t.Context(), network.Path(config.LAN), "tcp", "10.88.16.10:1")
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "the machine answers that nobody listens")
	routes := inLAN(t, config.LAN, "ip", "route")
	assert.Contains(t, routes, "10.201.50.0/24 via 10.88.16.10")

	require.NoError(t, machines.PowerOff(t.Context(), server.UUID))
	all, err := machines.List()
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.False(t, all[0].Running)
	again, err := hypervisor.NewMachines(config)
	require.NoError(t, err)
	require.NoError(t, again.PowerOn(t.Context(), server.UUID), "another process has the same machines")
	awaitConsole(t, machines, server.UUID, "machine one is up", 2)
	assert.Equal(t, "runcmd\n", read(t, dir, "var/lib/ran"), "runcmd is run once for an instance")
	assert.Equal(t, strings.Repeat("started\n", 2), read(t, dir, "var/lib/ticks"), "an enabled service comes up at boot")

	require.NoError(t, machines.Destroy(t.Context(), server.UUID))
	require.NoError(t, machines.Destroy(t.Context(), server.UUID), "nothing is left to destroy")
	assert.NoDirExists(t, dir)
	assert.Equal(t, before, hostView(t))
	assert.NotContains(t, inLAN(t, config.LAN, "ip", "route"), "10.201.50.0/24")
	left, err := filepath.Glob("/sys/fs/cgroup/*/caas-lab/" + config.Lab)
	require.NoError(t, err)
	assert.Empty(t, left)
	exists, err := network.Exists("caas-" + config.Lab + "-" + server.UUID)
	require.NoError(t, err)
	assert.False(t, exists)
	loops, err := exec.CommandContext(t.Context(), "losetup", "-a").Output()
	require.NoError(t, err)
	assert.NotContains(t, string(loops), server.UUID)
	require.ErrorIs(t, machines.PowerOn(t.Context(), server.UUID), hypervisor.ErrNotFound)
}

// read is a file that the machine wrote.
func read(t *testing.T, dir, path string) string {
	t.Helper()
	full := filepath.Join(dir, "upper", path)
	if rest, ok := strings.CutPrefix(path, "var/"); ok {
		full = filepath.Join(dir, "disk", rest)
	}
	data, err := os.ReadFile(full)
	require.NoError(t, err)
	return string(data)
}

func awaitConsole(t *testing.T, machines *hypervisor.Machines, id, text string, times int) {
	t.Helper()
	require.Eventually(t, func() bool {
		console, err := machines.Console(t.Context(), id)
		return err == nil && strings.Count(string(console), text) >= times
	}, 90*time.Second, 50*time.Millisecond, "console says %q", text)
}

// inside runs a program in a machine. The program has this process' capabilities, not the
// machine's: it MUST NOT change what is the real machine's, such as the clock.
func inside(t *testing.T, dir string, arguments ...string) string {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(dir, guest.PIDFile))
	require.NoError(t, err)
	arguments = append([]string{"--target", string(pid), "--all", "--root", "--wd", "--"}, arguments...)
	output, err := exec.CommandContext(t.Context(), "nsenter", arguments...).CombinedOutput()
	require.NoError(t, err, string(output))
	return string(output)
}

func inLAN(t *testing.T, lan string, arguments ...string) string {
	t.Helper()
	arguments = append([]string{"--net=" + network.Path(lan), "--"}, arguments...)
	output, err := exec.CommandContext(t.Context(), "nsenter", arguments...).CombinedOutput()
	require.NoError(t, err, string(output))
	return string(output)
}

// hostView is what of the real machine a machine must not change.
func hostView(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	var view strings.Builder
	for line := range strings.Lines(string(mounts)) {
		if !strings.Contains(line, "/run/netns") {
			view.WriteString(line)
		}
	}
	for _, path := range []string{"/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/panic", "/proc/sys/kernel/hostname", "/etc/hostname", "/etc/resolv.conf"} {
		value, err := os.ReadFile(path)
		require.NoError(t, err)
		fmt.Fprintf(&view, "%s=%s", path, value)
	}
	return view.String()
}

func imageRoot(t *testing.T) string {
	t.Helper()
	built, err := nodeimage.Build(t.Context(), nodeimage.Config{})
	require.NoError(t, err)
	return built.Root
}
