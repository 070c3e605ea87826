// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package vm_test boots one virtual machine through the real Nova and libvirt, with
// the image's own systemd and cloud-init, and lets it join as an OpenStackNode.
package vm_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/site"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	labName = "vm"
	// patience is for a machine whose processors are emulated, on a machine that is busy.
	patience = 12 * time.Minute
)

//nolint:gochecknoglobals // TestMain has to know of it
var shared labtest.World[lab.Lab]

// TestMain removes the lab at the end, also when it is interrupted.
func TestMain(m *testing.M) { os.Exit(shared.Run(m, labtest.Remove(labName))) }

func newLab(ctx context.Context, logf func(string, ...any)) (*lab.Lab, error) {
	return labtest.Up(ctx, lab.Config{Name: labName, VMs: true, Nodes: map[string]int{lab.CaaS: 0, lab.AF: 0}}, logf)
}

// terminal is a user's.
type terminal struct {
	kubectl, kubeconfig, dir string
}

func (u terminal) run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, u.kubectl, args...)
	command.Dir = u.dir
	command.Env = append(os.Environ(), "KUBECONFIG="+u.kubeconfig)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	require.NoError(t, command.Run(), "kubectl %v: %s", args, &out)
	return out.String()
}

func TestVM(t *testing.T) {
	if err := openstack.Missing(openstack.Libvirt); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("NO VIRTUAL MACHINE IS TESTED: %v", err)
	}
	bin, err := labtest.Bin()
	require.NoError(t, err)
	l := shared.Get(t, newLab)
	source, err := gobuild.FindSource("")
	require.NoError(t, err)
	s, err := site.New(t.Context(), site.Config{Lab: l, BinDir: bin, Manifests: filepath.Join(source, "deploy")})
	require.NoError(t, err)
	_, err = s.Authorize(t.Context(), openstack.Zangrand, openstack.CMS)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	kubeconfig, err := s.UserKubeconfig(openstack.Zangrand, openstack.CMS)
	require.NoError(t, err)
	u := terminal{kubectl: l.Kubectl(), kubeconfig: kubeconfig, dir: filepath.Join(source, "test", "e2e", "vm", "testdata")}

	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the controller's log:\n%s", tail(l, site.Controller))
		}
	})
	began := time.Now()
	assert.Equal(t, "openstacknode.osnode.infn.it/vm-01 created\n", u.run(t, "apply", "-f", "osnode.yml"))
	u.run(t, "wait", "--for=condition=Ready", "osn/vm-01", "--timeout="+patience.String())
	t.Logf("the virtual machine's node is Ready %s after kubectl apply", time.Since(began).Round(time.Second))

	// What looks at the machine itself is an administrator's: tenants have no volumes of the host's.
	caas, err := l.Cluster(lab.CaaS)
	require.NoError(t, err)
	admin := u
	admin.kubeconfig = caas.Kubeconfig()
	namespace := "--namespace=" + lab.TenantNamespace(openstack.CMS)
	admin.run(t, namespace, "apply", "-f", "pod.yml")
	admin.run(t, namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/inside", "--timeout=5m")
	out := admin.run(t, namespace, "logs", "inside")
	assert.Contains(t, out, "the user's part ran", "user data of the spec is executed, after the platform's")
	assert.Contains(t, out, "cgroup2 /sys/fs/cgroup cgroup2", "the kernel is the machine's own")

	u.run(t, "delete", "osn", "vm-01")
	session, err := s.Cloud.Login(t.Context(), openstack.Zangrand, openstack.CMS)
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var servers struct{ Servers []struct{ ID string } }
		require.NoError(c, session.Do(t.Context(), "GET", "compute", "/servers", nil, &servers))
		assert.Empty(c, servers.Servers)
	}, time.Minute, time.Second)
}

func tail(l *lab.Lab, component string) string {
	var log bytes.Buffer
	if err := l.WriteLog(context.Background(), &log, component, false); err != nil {
		return err.Error()
	}
	return string(log.Bytes()[max(0, log.Len()-4000):])
}
