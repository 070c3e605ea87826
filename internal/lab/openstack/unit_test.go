// SPDX-License-Identifier: Apache-2.0

package openstack_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/cloudveneto/caas/internal/lab/openstack"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	got, err := openstack.Config{Dir: "/lab/openstack", HypervisorSocket: "/lab/hv.sock"}.Complete()
	require.NoError(t, err)
	assert.Equal(t, netip.MustParseAddr("10.88.0.5"), got.Address)
	assert.Equal(t, "regionOne", got.Region)
	assert.Equal(t, openstack.Hook, got.Driver)
	assert.Equal(t, 2, got.Computes)
	assert.Equal(t, "/lab/openstack/log", got.LogDir)
	assert.NotEmpty(t, got.Cache)
	require.NotPanics(t, func() { got.Progress("a step that nobody is told of") })

	tests := map[string]struct {
		cfg  openstack.Config
		want string
	}{
		"relative directory":     {openstack.Config{Dir: "lab", HypervisorSocket: "/s"}, "is not absolute"},
		"no hypervisor":          {openstack.Config{Dir: "/lab"}, "hypervisor's socket"},
		"unknown driver":         {openstack.Config{Dir: "/lab", Driver: "xen"}, `no driver "xen"`},
		"negative hosts":         {openstack.Config{Dir: "/lab", HypervisorSocket: "/s", Computes: -1}, "-1 compute hosts"},
		"region with a newline":  {openstack.Config{Dir: "/lab", HypervisorSocket: "/s", Region: "a\nb"}, "characters"},
		"directory with a blank": {openstack.Config{Dir: "/my lab", HypervisorSocket: "/s"}, "characters"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tc.cfg.Complete()
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestOpenWithoutSite(t *testing.T) {
	t.Parallel()
	_, err := openstack.Open(t.TempDir())
	require.ErrorIs(t, err, fs.ErrNotExist)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "site.json"), []byte("{"), 0o600))
	_, err = openstack.Open(dir)
	require.ErrorContains(t, err, "decode")
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "site.json"), []byte(`{
		"config": {"Address": "10.88.0.5", "HypervisorSocket": "/hv.sock", "KeystoneTLS": {"CertFile": "/c", "KeyFile": "/k"}},
		"users": {"lisa@infn.it": {"id": "u1", "name": "lisa@infn.it", "projects": ["QST"]}},
		"projects": {"QST": {"id": "p1", "name": "QST", "network": "QST-lan", "subnet": "10.88.32.0/20", "gateway": "10.88.32.1"}}
	}`), 0o600))
	site, err := openstack.Open(dir)
	require.NoError(t, err)
	assert.Equal(t, "http://10.88.0.5:5000/v3", site.AuthURL())
	assert.Equal(t, "https://10.88.0.5:5443/v3", site.TLSAuthURL())
	user, err := site.User(openstack.Lisa)
	require.NoError(t, err)
	assert.Equal(t, openstack.User{ID: "u1", Name: openstack.Lisa, Projects: []string{"QST"}}, user)
	project, err := site.Project(openstack.QST)
	require.NoError(t, err)
	assert.Equal(t, netip.MustParsePrefix("10.88.32.1/20"), project.GatewayPrefix())
	assert.Len(t, site.Projects(), 1)
	_, err = site.Project("XYZ")
	require.ErrorContains(t, err, `no project "XYZ"`)
	_, err = site.Password(openstack.Lisa)
	require.ErrorIs(t, err, fs.ErrNotExist)
	status := site.Status(t.Context())
	assert.False(t, status.Healthy())
	assert.Equal(t, []string{"glance", "keystone", "neutron", "nova", "placement"}, status.Down)
	require.NoError(t, site.Stop(t.Context()), "nothing runs")
}

func TestProjectNetworks(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.88.16.1/20"), netip.MustParsePrefix("10.88.32.1/20")}, openstack.Gateways())
	taken := map[string]openstack.Project{}
	for i := range 125 {
		subnet, free := openstack.FreeSubnet(taken)
		require.True(t, free, "%d projects", i)
		for _, other := range taken {
			require.False(t, other.Subnet.Overlaps(subnet))
		}
		made := openstack.NewProject(fmt.Sprint(i), subnet, 10, 4086)
		for _, address := range []netip.Addr{made.Gateway, made.First, made.Last} {
			require.True(t, subnet.Contains(address), "%s in %s", address, subnet)
		}
		taken[made.Name] = made
	}
	assert.Equal(t, netip.MustParsePrefix("10.88.48.0/20"), taken["0"].Subnet)
	assert.Equal(t, netip.MustParseAddr("10.88.63.246"), taken["0"].Last)
	_, free := openstack.FreeSubnet(taken)
	assert.False(t, free)
}

func TestKeyPair(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lisa@infn.it", "Lisa")
	public, err := openstack.EnsureKey(path, "lisa@infn.it")
	require.NoError(t, err)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	signer, err := ssh.ParsePrivateKey(data)
	require.NoError(t, err)
	parsed, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	require.NoError(t, err)
	assert.Equal(t, "lisa@infn.it", comment)
	assert.Equal(t, ssh.KeyAlgoED25519, parsed.Type())
	assert.Equal(t, parsed.Marshal(), signer.PublicKey().Marshal())
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	again, err := openstack.EnsureKey(path, "lisa@infn.it")
	require.NoError(t, err)
	assert.Equal(t, public, again)
}

func TestStatusOf(t *testing.T) {
	t.Parallel()
	refusal := &openstack.StatusError{Method: http.MethodPost, URL: "http://nova/servers", Status: 403, Body: "Quota exceeded\n"}
	assert.Equal(t, "POST http://nova/servers: status 403: Quota exceeded", refusal.Error())
	assert.Equal(t, 403, openstack.StatusOf(fmt.Errorf("create server: %w", refusal)))
	assert.Equal(t, 0, openstack.StatusOf(fs.ErrNotExist))
}

func TestRequirements(t *testing.T) {
	t.Parallel()
	packages := func(driver openstack.Driver) []string {
		var all []string
		for _, requirement := range openstack.Requirements(driver) {
			require.NotEmpty(t, requirement.Files, requirement.Package)
			for _, file := range requirement.Files {
				assert.True(t, strings.HasPrefix(file, "/"), file)
			}
			all = append(all, requirement.Package)
		}
		return all
	}
	hook, libvirt := packages(openstack.Hook), packages(openstack.Libvirt)
	assert.NotContains(t, hook, "qemu-system-x86")
	assert.Contains(t, libvirt, "qemu-system-x86")
	assert.True(t, slices.Contains(hook, "nova-common"))
	err := openstack.Missing(openstack.Hook)
	if err != nil {
		require.ErrorIs(t, err, openstack.ErrMissing)
	}
}
