// SPDX-License-Identifier: Apache-2.0

//go:build integration

package openstack_test

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/openstack/openstacktest"
)

const (
	activeTimeout = 3 * time.Minute
	pollInterval  = 50 * time.Millisecond
)

type object = map[string]any

func startSite(t *testing.T, cfg openstack.Config) *openstack.Site {
	t.Helper()
	cfg.Progress = func(step string) { t.Logf("%s %s", time.Now().Format("15:04:05.000"), step) }
	began := time.Now()
	site := openstacktest.Start(t, cfg)
	t.Logf("started in %s", time.Since(began))
	return site
}

func login(t *testing.T, site *openstack.Site, user, project string) *openstack.Session {
	t.Helper()
	session, err := site.Login(t.Context(), user, project)
	require.NoError(t, err)
	return session
}

// find returns the id of the one thing of a name.
func find(t *testing.T, session *openstack.Session, service, path, list, name string) string {
	t.Helper()
	answer := map[string][]object{}
	var raw object
	require.NoError(t, session.Do(t.Context(), http.MethodGet, service, path, nil, &raw))
	for _, one := range raw[list].([]any) {
		answer[list] = append(answer[list], one.(object))
	}
	var ids []string
	for _, one := range answer[list] {
		if one["name"] == name {
			ids = append(ids, one["id"].(string))
		}
	}
	require.Len(t, ids, 1, "%s called %s", list, name)
	return ids[0]
}

type server struct {
	ID        string
	Status    string
	UserID    string `json:"user_id"`
	KeyName   string `json:"key_name"`
	Fault     struct{ Message string }
	Addresses map[string][]struct{ Addr string }
	Metadata  map[string]string
}

// create asks for a server of the flavor in the session's project.
func create(t *testing.T, site *openstack.Site, session *openstack.Session, project, flavor string, more object) (string, error) {
	t.Helper()
	at, err := site.Project(project)
	require.NoError(t, err)
	wanted := object{
		"name": "osn-01", "flavorRef": find(t, session, "compute", "/flavors", "flavors", flavor),
		"imageRef": find(t, session, "image", "/v2/images", "images", openstack.ImageAlmaLinux),
		"networks": []object{{"uuid": at.NetworkID}}, "security_groups": []object{{"name": "K8S"}},
	}
	maps.Copy(wanted, more)
	var made struct{ Server server }
	err = session.Do(t.Context(), http.MethodPost, "compute", "/servers", object{"server": wanted}, &made)
	return made.Server.ID, err
}

func show(t *testing.T, session *openstack.Session, id string) server {
	t.Helper()
	var answer struct{ Server server }
	require.NoError(t, session.Do(t.Context(), http.MethodGet, "compute", "/servers/"+id, nil, &answer))
	return answer.Server
}

func await(t *testing.T, session *openstack.Session, id, status string) server {
	t.Helper()
	var last server
	require.Eventually(t, func() bool {
		last = show(t, session, id)
		return last.Status == status
	}, activeTimeout, pollInterval, "server becomes %s", status)
	return last
}

func remove(t *testing.T, session *openstack.Session, id string) {
	t.Helper()
	require.NoError(t, session.Do(t.Context(), http.MethodDelete, "compute", "/servers/"+id, nil, nil))
	require.Eventually(t, func() bool {
		err := session.Do(t.Context(), http.MethodGet, "compute", "/servers/"+id, nil, nil)
		return openstack.StatusOf(err) == http.StatusNotFound
	}, activeTimeout, pollInterval, "server is gone")
}

func TestIntegrationSite(t *testing.T) {
	openstacktest.Require(t, openstack.Hook)
	machines := serveHypervisor(t)
	cfg := openstack.Config{Dir: filepath.Join(t.TempDir(), "site"), NetNS: openstacktest.LAN(t), HypervisorSocket: machines.socket, KeystoneTLS: certificate(t)}
	site := startSite(t, cfg)
	assert.True(t, site.Status(t.Context()).Healthy(), "%+v", site.Status(t.Context()))

	t.Run("https", func(t *testing.T) { testTLS(t, site) })
	t.Run("server lives and ends", func(t *testing.T) { testServer(t, site, machines) })
	t.Run("refused spawn is told", func(t *testing.T) { testRefusedSpawn(t, site, machines) })
	t.Run("quota", func(t *testing.T) { testQuota(t, site) })
	t.Run("trust", func(t *testing.T) { testTrust(t, site) })
	t.Run("platform's user", func(t *testing.T) { testServiceUser(t, site) })
	t.Run("slow hypervisor", func(t *testing.T) { testSlowHypervisor(t, site, machines) })
	t.Run("gpu", func(t *testing.T) { testGPU(t, site) })
	t.Run("stop and start again", func(t *testing.T) { testRestart(t, site, cfg) })
}

func testServer(t *testing.T, site *openstack.Site, machines *hypervisor) {
	user := login(t, site, openstack.Zangrand, openstack.CMS)
	began := time.Now()
	id, err := create(t, site, user, openstack.CMS, "cloudveneto.medium", object{
		"key_name": "my-key", "metadata": object{"osn.infn.it:uid": "42"},
		"user_data": base64.StdEncoding.EncodeToString([]byte("#cloud-config\n")),
	})
	require.NoError(t, err)
	got := await(t, user, id, "ACTIVE")
	t.Logf("ACTIVE after %s", time.Since(began))
	require.Len(t, got.Addresses["CMS-lan"], 1)
	address := netip.MustParseAddr(got.Addresses["CMS-lan"][0].Addr)
	assert.True(t, netip.MustParsePrefix("10.88.16.0/20").Contains(address))
	assert.Equal(t, map[string]string{"osn.infn.it:uid": "42"}, got.Metadata)

	spawned := machines.body(t, id, "spawn")
	assert.Equal(t, "osn-01", spawned.Name)
	assert.Equal(t, user.ProjectID, spawned.ProjectID)
	assert.Equal(t, user.UserID, spawned.UserID)
	assert.Equal(t, "#cloud-config\n", string(spawned.UserData))
	assert.Equal(t, flavor{Name: "cloudveneto.medium", VCPUs: 2, RAM: 4096, Disk: 25}, spawned.Flavor)
	assert.Equal(t, map[string]string{"osn.infn.it:uid": "42"}, spawned.Metadata)
	public, err := os.ReadFile(site.KeyFile(openstack.Zangrand, "my-key") + ".pub")
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSpace(string(public)), strings.TrimSpace(spawned.KeyData))
	require.Len(t, spawned.NICs, 1)
	assert.Equal(t, []string{address.String() + "/20"}, spawned.NICs[0].IPs)
	assert.Equal(t, "10.88.16.1", spawned.NICs[0].Gateway)
	assert.Equal(t, "CMS-lan", spawned.NICs[0].Network)
	assert.NotEmpty(t, spawned.NICs[0].MAC)

	for _, step := range []struct{ action, verb, status string }{{"os-stop", "power_off", "SHUTOFF"}, {"os-start", "power_on", "ACTIVE"}} {
		require.NoError(t, user.Do(t.Context(), http.MethodPost, "compute", "/servers/"+id+"/action", object{step.action: nil}, nil))
		await(t, user, id, step.status)
		machines.body(t, id, step.verb)
	}
	var console struct{ Output string }
	require.NoError(t, user.Do(t.Context(), http.MethodPost, "compute", "/servers/"+id+"/action", object{"os-getConsoleOutput": object{}}, &console))
	assert.Equal(t, "console of "+id, console.Output)
	began = time.Now()
	remove(t, user, id)
	t.Logf("gone after %s", time.Since(began))
	machines.body(t, id, "destroy")
}

func testRefusedSpawn(t *testing.T, site *openstack.Site, machines *hypervisor) {
	user := login(t, site, openstack.Lisa, openstack.QST)
	for name, tc := range map[string]struct {
		status int
		want   string
	}{
		"for good":            {http.StatusConflict, "no room for this machine"},
		"on this compute now": {http.StatusServiceUnavailable, "Exhausted all hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			machines.refuse(tc.status, "no room for this machine")
			defer machines.refuse(0, "")
			id, err := create(t, site, user, openstack.QST, "lab.tiny", object{"key_name": "Lisa"})
			require.NoError(t, err)
			got := await(t, user, id, "ERROR")
			assert.Contains(t, got.Fault.Message, tc.want)
			remove(t, user, id)
		})
	}
}

func testQuota(t *testing.T, site *openstack.Site) {
	_, err := site.AddUser(t.Context(), "poor@infn.it")
	require.NoError(t, err)
	_, err = site.AddProject(t.Context(), "POOR", openstack.Quota{Cores: 1, MemoryMiB: 1024, Instances: 1}, "poor@infn.it")
	require.NoError(t, err)
	user := login(t, site, "poor@infn.it", "POOR")
	_, err = create(t, site, user, "POOR", "cloudveneto.medium", nil)
	require.Equal(t, http.StatusForbidden, openstack.StatusOf(err), "%v", err)
	assert.Contains(t, err.Error(), "Quota exceeded for cores")
	require.NoError(t, site.SetQuota(t.Context(), "POOR", openstack.Quota{}))
	id, err := create(t, site, user, "POOR", "cloudveneto.medium", nil)
	require.NoError(t, err)
	got := await(t, user, id, "ACTIVE")
	assert.True(t, netip.MustParsePrefix("10.88.48.0/20").Contains(netip.MustParseAddr(got.Addresses["POOR-lan"][0].Addr)), "%v", got.Addresses)
	remove(t, user, id)
}

func testTrust(t *testing.T, site *openstack.Site) {
	trust, err := site.Trust(t.Context(), openstack.Lisa, openstack.QST)
	require.NoError(t, err)
	acting, err := site.LoginTrust(t.Context(), trust)
	require.NoError(t, err)
	lisa, err := site.User(openstack.Lisa)
	require.NoError(t, err)
	assert.Equal(t, lisa.ID, acting.UserID, "impersonated")
	id, err := create(t, site, acting, openstack.QST, "lab.tiny", object{"key_name": "Lisa"})
	require.NoError(t, err)
	got := await(t, acting, id, "ACTIVE")
	assert.Equal(t, lisa.ID, got.UserID)
	assert.Equal(t, "Lisa", got.KeyName)
	remove(t, acting, id)

	user := login(t, site, openstack.Lisa, openstack.QST)
	require.NoError(t, user.Do(t.Context(), http.MethodDelete, "identity", "/OS-TRUST/trusts/"+trust, nil, nil))
	_, err = site.LoginTrust(t.Context(), trust)
	require.Error(t, err, "the trustor has ended it")
}

// testServiceUser has the platform's user see and delete what another made, which a user without the role cannot.
func testServiceUser(t *testing.T, site *openstack.Site) {
	user := login(t, site, openstack.Lisa, openstack.QST)
	id, err := create(t, site, user, openstack.QST, "lab.tiny", nil)
	require.NoError(t, err)
	await(t, user, id, "ACTIVE")
	stranger := login(t, site, openstack.Zangrand, openstack.CMS)
	err = stranger.Do(t.Context(), http.MethodGet, "compute", "/servers/"+id, nil, nil)
	require.Equal(t, http.StatusNotFound, openstack.StatusOf(err), "%v", err)
	platform := login(t, site, openstack.ServiceUser, openstack.QST)
	assert.Equal(t, id, find(t, platform, "compute", "/servers?name=%5Eosn-01$", "servers", "osn-01"))
	remove(t, platform, id)
}

// testSlowHypervisor has the hypervisor work on ten servers at once; Nova answers meanwhile.
func testSlowHypervisor(t *testing.T, site *openstack.Site, machines *hypervisor) {
	const count = 10
	_, err := site.AddUser(t.Context(), "busy@infn.it")
	require.NoError(t, err)
	_, err = site.AddProject(t.Context(), "BUSY", openstack.Quota{}, "busy@infn.it")
	require.NoError(t, err)
	user := login(t, site, "busy@infn.it", "BUSY")
	release := machines.hold()
	defer release()
	began := time.Now()
	var ids []string
	for range count {
		id, err := create(t, site, user, "BUSY", "lab.tiny", nil)
		require.NoError(t, err)
		ids = append(ids, id)
	}
	for _, id := range ids {
		require.Eventually(t, func() bool { return machines.has(id, "spawn") }, 2*activeTimeout, pollInterval)
		assert.Equal(t, "BUILD", show(t, user, id).Status)
	}
	t.Logf("%d servers are made at once after %s", count, time.Since(began))
	release()
	for _, id := range ids {
		await(t, user, id, "ACTIVE")
	}
	for _, id := range ids {
		remove(t, user, id)
	}
}

func testGPU(t *testing.T, site *openstack.Site) {
	user := login(t, site, openstack.Lisa, openstack.QST)
	id, err := create(t, site, user, openstack.QST, "lab.gpu", nil)
	require.NoError(t, err)
	await(t, user, id, "ACTIVE")
	remove(t, user, id)
}

func testRestart(t *testing.T, site *openstack.Site, cfg openstack.Config) {
	user := login(t, site, openstack.Lisa, openstack.QST)
	id, err := create(t, site, user, openstack.QST, "lab.tiny", nil)
	require.NoError(t, err)
	await(t, user, id, "ACTIVE")
	before := site.Status(t.Context())
	assert.Len(t, before.PIDs, 5)
	require.NoError(t, site.Stop(t.Context()))
	require.NoError(t, site.Stop(t.Context()), "a stopped site can be stopped")
	assert.Len(t, site.Status(t.Context()).Down, 5)
	assert.Empty(t, inNamespace(t, cfg.NetNS), "no process is left")

	again := startSite(t, cfg)
	opened, err := openstack.Open(cfg.Dir)
	require.NoError(t, err)
	assert.Empty(t, opened.Status(t.Context()).Down)
	user = login(t, again, openstack.Lisa, openstack.QST)
	assert.Equal(t, "ACTIVE", show(t, user, id).Status)
	require.NoError(t, user.Do(t.Context(), http.MethodPost, "compute", "/servers/"+id+"/action", object{"os-stop": nil}, nil), "Nova's compute knows the machine")
	await(t, user, id, "SHUTOFF")
	remove(t, user, id)
	require.NoError(t, again.Stop(t.Context()))
	assert.Empty(t, inNamespace(t, cfg.NetNS), "no process is left")
}

// inNamespace lists the processes in a network namespace.
func inNamespace(t *testing.T, path string) []string {
	t.Helper()
	want, err := os.Stat(path)
	require.NoError(t, err)
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	var found []string
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		if info, err := os.Stat(filepath.Join("/proc", entry.Name(), "ns/net")); err == nil && os.SameFile(info, want) {
			text, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
			found = append(found, entry.Name()+" "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}
