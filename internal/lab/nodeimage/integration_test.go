// SPDX-License-Identifier: Apache-2.0

//go:build integration

package nodeimage_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/nodeimage"
)

// image is the lab's own, so that it is built once.
func image(t *testing.T, vm bool) nodeimage.Image {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("building the node image needs root")
	}
	step := ""
	built, err := nodeimage.Build(t.Context(), nodeimage.Config{VM: vm, Progress: func(now string, elapsed time.Duration) {
		if now != step {
			t.Logf("%6.1fs %s", elapsed.Seconds(), now)
		}
		step = now
	}})
	require.NoError(t, err)
	return built
}

func TestRoot(t *testing.T) {
	built := image(t, false)
	for _, name := range []string{
		"usr/local/bin/kubelet", "usr/local/bin/kube-proxy", "usr/bin/containerd", "usr/sbin/runc", "usr/bin/cloud-init",
		"opt/cni/bin/bridge", "etc/systemd/system/kubelet.service", "usr/sbin/mkfs.xfs", "usr/share/osn/images/pause.tar",
	} {
		assert.FileExists(t, filepath.Join(built.Root, name))
	}
	for _, name := range []string{
		"etc/systemd/system/multi-user.target.wants/kubelet.service", "etc/apt/apt.conf.d/99mmdebstrap",
		"etc/ssh/ssh_host_ed25519_key", "var/lib/cloud", "usr/sbin/policy-rc.d",
	} {
		assert.NoFileExists(t, filepath.Join(built.Root, name))
		assert.NoDirExists(t, filepath.Join(built.Root, name))
	}
	for _, name := range []string{"etc/machine-id", "etc/resolv.conf"} {
		info, err := os.Stat(filepath.Join(built.Root, name))
		require.NoError(t, err)
		assert.Zero(t, info.Size(), "%s says nothing about the machine that built the image", name)
	}
	config, err := os.ReadFile(filepath.Join(built.Root, "etc/containerd/config.toml"))
	require.NoError(t, err)
	assert.NotContains(t, string(config), "@")

	again := image(t, false)
	assert.Equal(t, built.Root, again.Root, "from the cache")
}

func TestDisk(t *testing.T) {
	built := image(t, true)
	for _, path := range []string{built.Disk, built.Kernel, built.Initrd} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		t.Logf("%s: %d MiB", filepath.Base(path), info.Size()>>20)
		assert.Positive(t, info.Size())
	}
}
