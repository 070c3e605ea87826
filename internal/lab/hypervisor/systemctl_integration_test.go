// SPDX-License-Identifier: Apache-2.0

//go:build integration

package hypervisor_test

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/guest"
)

const servicesUserData = `#cloud-config
users: [{name: ann}]
write_files:
- path: /etc/systemd/system/steady.service
  content: |
    [Service]
    User=ann
    RuntimeDirectory=steady
    ExecStart=/bin/sh -c 'echo $$$$ > /run/steady/pid; id -un > /run/steady/user; exec sleep 1000'
    ExecReload=/bin/sh -c 'echo reloaded > /run/steady/reloaded'
    ExecStop=+/bin/sh -c 'echo $MAINPID > /run/stopped'
    Restart=always
    RestartSec=0
    KillMode=mixed
- path: /etc/systemd/system/tells.service
  content: |
    [Service]
    Type=notify
    ExecStart=/usr/bin/python3 -c 'import os,socket,time; time.sleep(1); open("/run/told","w").close(); s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.sendto(b"STATUS=x\\nREADY=1\\n", os.environ["NOTIFY_SOCKET"]); time.sleep(1000)'
- path: /etc/systemd/system/silent.service
  content: |
    [Service]
    Type=notify
    TimeoutStartSec=1
    ExecStart=/bin/sleep 1000
- path: /etc/systemd/system/once.service
  content: |
    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=/bin/sh -c 'echo a >> /run/once'
    ExecStart=/bin/sh -c 'echo b >> /run/once'
- path: /etc/systemd/system/breaks.service
  content: |
    [Unit]
    StartLimitBurst=3
    [Service]
    ExecStart=/bin/sh -c 'echo try >> /run/tries; sleep 0.1; exit 3'
    Restart=on-failure
    RestartSec=10ms
- path: /etc/systemd/system/needs.service
  content: |
    [Unit]
    Requires=once.service
    After=once.service
    ConditionPathExists=|/nonexistent
    ConditionPathExists=|/etc/passwd
    [Service]
    ExecStart=/bin/sh -c 'cp /run/once /run/needs; exec sleep 1000'
- path: /etc/systemd/system/unmet.service
  content: |
    [Unit]
    ConditionPathExists=!/etc/passwd
    [Service]
    ExecStart=/bin/sleep 1000
`

// TestIntegrationServices has a machine's systemctl do what user data may ask of it.
func TestIntegrationServices(t *testing.T) {
	machines, config := newMachines(t)
	server := newServer()
	server.UserData = []byte(servicesUserData)
	require.NoError(t, machines.Spawn(t.Context(), server))
	awaitConsole(t, machines, server.UUID, "machine one is up", 1)
	dir := filepath.Join(config.Dir, server.UUID)
	sh := func(script string) string { return strings.TrimSpace(inside(t, dir, "sh", "-c", script)) }

	await := func(file string) string {
		return sh("timeout 20 sh -c 'until test -s " + file + "; do sleep 0.05; done'; cat " + file)
	}

	sh("systemctl start steady")
	assert.Equal(t, "ann", await("/run/steady/user"))
	first := sh("cat /run/steady/pid")
	assert.Equal(t, first, sh("systemctl show -p MainPID --value steady"))
	assert.Equal(t, "reloaded", sh("systemctl reload steady && cat /run/steady/reloaded"))
	sh("kill -9 " + first)
	require.Eventually(t, func() bool { return sh("systemctl show -p MainPID --value steady; true") != first }, 5*time.Second, 50*time.Millisecond)
	require.Eventually(t, func() bool { return sh("systemctl is-active steady; true") == "active" }, 5*time.Second, 50*time.Millisecond)
	second := sh("systemctl show -p MainPID --value steady")
	sh("systemctl restart steady")
	assert.Equal(t, second, sh("cat /run/stopped"), "ExecStop knows the main process")
	third := sh("systemctl show -p MainPID --value steady")
	assert.NotEqual(t, second, third)
	sh("systemctl stop steady")
	assert.Equal(t, "inactive", sh("systemctl is-active steady; test $? = 3 && test ! -d /proc/"+third))

	assert.Equal(t, "active", sh("systemctl start tells && test -e /run/told && systemctl is-active tells"), "start waits until it is ready")
	assert.Contains(t, sh("systemctl start silent 2>&1; test $? = 1"), "does not say that it is ready")
	assert.Equal(t, "failed", sh("systemctl is-failed silent"))
	assert.Equal(t, "a\nb", sh("systemctl start once && systemctl start once && cat /run/once"), "what is active is not started again")
	assert.Equal(t, "a\nb", sh("systemctl start needs && cat /run/once"))
	assert.Equal(t, "a\nb", await("/run/needs"), "what it requires was there before it")
	assert.Equal(t, "inactive", sh("systemctl start unmet; systemctl is-active unmet; true"))
	sh("systemctl start breaks")
	require.Eventually(t, func() bool { return sh("systemctl is-failed breaks; true") == "failed" }, 10*time.Second, 100*time.Millisecond)
	assert.Equal(t, "3", sh("grep -c try /run/tries"), "it is not tried for ever")

	assert.Contains(t, sh("systemctl start none 2>&1; test $? = 5"), "not found")
	assert.Contains(t, sh("systemctl status none 2>&1; test $? = 4"), "could not be found")
	assert.Contains(t, sh("systemctl status tells"), "Active: active")
	assert.Contains(t, sh("systemctl explode 2>&1; test $? = 1"), "unknown command verb")
	assert.Equal(t, "masked", sh("systemctl mask --now ssh && systemctl is-enabled ssh; true"))
	assert.Contains(t, sh("systemctl start ssh 2>&1; test $? = 1"), "masked")
	assert.Contains(t, sh("systemctl mask once 2>&1; test $? = 1"), "is a file", "that of a unit is not overwritten")
	assert.Contains(t, sh("systemctl cat steady"), "RuntimeDirectory=steady")
	assert.Contains(t, sh("systemctl"), "tells.service")

	assert.Equal(t, "1", sh("cat /proc/sys/vm/overcommit_memory"), "what the kubelet wants to see")
	assert.Equal(t, "no", sh("test -w /proc/sys/kernel/core_pattern && echo yes || echo no"), "kernel settings are not the machine's")
	assert.Equal(t, "yes", sh("test -w /proc/sys/net/ipv4/ip_forward && echo yes || echo no"), "except those of its network")
	bounding, err := strconv.ParseUint(sh("awk '/CapBnd/ {print $2}' /proc/1/status"), 16, 64)
	require.NoError(t, err)
	assert.Zero(t, bounding&(1<<unix.CAP_SYS_TIME|1<<unix.CAP_SYS_MODULE), "nor are the clock and the kernel's modules")
	assert.Equal(t, "0", sh("ls /sys/fs/cgroup/memory/caas-lab 2>/dev/null | wc -l"), "it sees its own cgroups only")

	sh("systemctl poweroff")
	require.Eventually(t, func() bool {
		all, err := machines.List()
		return err == nil && len(all) == 1 && !all[0].Running
	}, 10*time.Second, 50*time.Millisecond)
	require.NoError(t, machines.PowerOn(t.Context(), server.UUID))
	awaitConsole(t, machines, server.UUID, "machine one is up", 2)
}

// TestIntegrationSwitchingOffEarly is about a machine that is ended while it boots.
func TestIntegrationSwitchingOffEarly(t *testing.T) {
	machines, config := newMachines(t)
	server := newServer()
	for range 5 {
		require.NoError(t, machines.Spawn(t.Context(), server))
		require.NoError(t, machines.Reboot(t.Context(), server.UUID))
		require.NoError(t, machines.Destroy(t.Context(), server.UUID))
		assert.NoDirExists(t, filepath.Join(config.Dir, server.UUID))
	}
	left, err := exec.CommandContext(t.Context(), "pgrep", "--full", guest.InitCommand+" "+filepath.Join(config.Dir, server.UUID)).Output()
	require.Error(t, err, "nothing runs: %s", left)
	groups, err := filepath.Glob("/sys/fs/cgroup/*/caas-lab/" + config.Lab)
	require.NoError(t, err)
	assert.Empty(t, groups)
}

// TestIntegrationSpawnThatCannotBe leaves nothing.
func TestIntegrationSpawnThatCannotBe(t *testing.T) {
	machines, config := newMachines(t)
	for name, spoil := range map[string]func(*testing.T) string{
		"MAC": func(t *testing.T) string {
			t.Helper()
			server := newServer()
			server.NICs[0].MAC = "nonsense"
			require.ErrorContains(t, machines.Spawn(t.Context(), server), "nonsense")
			return server.UUID
		},
		"no network": func(t *testing.T) string {
			t.Helper()
			server := newServer()
			server.NICs = nil
			require.ErrorContains(t, machines.Spawn(t.Context(), server), "one network interface")
			return server.UUID
		},
	} {
		id := spoil(t)
		assert.NoDirExists(t, filepath.Join(config.Dir, id), name)
	}
	all, err := machines.List()
	require.NoError(t, err)
	assert.Empty(t, all, strconv.Itoa(len(all)))
}
