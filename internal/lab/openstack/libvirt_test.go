// SPDX-License-Identifier: Apache-2.0

//go:build integration

package openstack_test

import (
	"encoding/base64"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/nodeimage"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/openstack/openstacktest"
)

// bootTimeout is for a machine that is emulated, on few processors that others use, too.
const bootTimeout = 10 * time.Minute

// TestIntegrationLibvirt boots the node image as a virtual machine, which says so on its console.
func TestIntegrationLibvirt(t *testing.T) {
	openstacktest.Require(t, openstack.Libvirt)
	image, err := nodeimage.Build(t.Context(), nodeimage.Config{VM: true})
	require.NoError(t, err)
	cfg := openstack.Config{Dir: filepath.Join(t.TempDir(), "site"), NetNS: openstacktest.LAN(t), Driver: openstack.Libvirt, Images: []openstack.Image{{
		Name: openstack.ImageAlmaLinux, Disk: image.Disk, Kernel: image.Kernel, Ramdisk: image.Initrd, CommandLine: nodeimage.KernelArguments(),
	}}}
	site := startSite(t, cfg)
	user := login(t, site, openstack.Zangrand, openstack.CMS)
	began := time.Now()
	id, err := create(t, site, user, openstack.CMS, "lab.node", object{
		"key_name": "my-key",
		"user_data": base64.StdEncoding.EncodeToString([]byte("#cloud-config\nruncmd:\n" +
			`- [sh, -c, "echo address $(ip -4 -o addr show eth0 | awk '{print $4}') gateway $(ip route show default | awk '{print $3}') > /dev/ttyS0"]` + "\n")),
	})
	require.NoError(t, err)
	var got server
	require.Eventually(t, func() bool {
		got = show(t, user, id)
		require.NotEqual(t, "ERROR", got.Status, "%s", got.Fault.Message)
		return got.Status == "ACTIVE"
	}, activeTimeout, pollInterval)
	t.Logf("ACTIVE after %s", time.Since(began))

	want := "address " + got.Addresses["CMS-lan"][0].Addr + "/20 gateway 10.88.16.1"
	console := func() string {
		var answer struct{ Output string }
		require.NoError(t, user.Do(t.Context(), http.MethodPost, "compute", "/servers/"+id+"/action", object{"os-getConsoleOutput": object{}}, &answer))
		return answer.Output
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(console())
		}
	})
	require.Eventually(t, func() bool { return strings.Contains(console(), want) }, bootTimeout, time.Second)
	t.Logf("booted after %s", time.Since(began))

	require.NoError(t, site.Stop(t.Context()))
	assert.Empty(t, inNamespace(t, cfg.NetNS), "no process is left")
	again := startSite(t, cfg)
	user = login(t, again, openstack.Zangrand, openstack.CMS)
	await(t, user, id, "ACTIVE")
	remove(t, user, id)
	require.NoError(t, again.Stop(t.Context()))
	assert.Empty(t, inNamespace(t, cfg.NetNS), "no process is left")
}
