// SPDX-License-Identifier: Apache-2.0

package openstack_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/openstack"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

// rig is a fake OpenStack and a seam to it.
type rig struct {
	*openstack.Cloud

	fake     *openstacktest.Fake
	faults   *openstacktest.Faults
	lab      openstacktest.Lab
	metrics  *prometheus.Registry
	password string
	owner    cloud.Account
}

type setup struct {
	options  openstacktest.Options
	provider func(rig, *openstack.Provider)
	config   func(rig, *openstack.Config)
}

func newRig(t *testing.T, with setup) rig {
	t.Helper()
	faults := openstacktest.NewFaults(1)
	with.options.Middleware = faults.Wrap
	fake := openstacktest.Start(with.options)
	t.Cleanup(fake.Close)
	r := rig{
		fake: fake, faults: faults, lab: fake.Populate(), metrics: prometheus.NewRegistry(),
		password: filepath.Join(t.TempDir(), "password"),
	}
	require.NoError(t, os.WriteFile(r.password, []byte(r.lab.ServicePassword+"\n"), 0o600))
	r.owner = cloud.Account{
		Provider: "cloudveneto", Region: openstacktest.Region, ProjectID: r.lab.QST, ProjectName: "QST", UserID: r.lab.Lisa,
	}
	provider := openstack.Provider{
		ID: "cloudveneto", DisplayName: "CloudVeneto", AuthURL: fake.AuthURL(), Regions: []string{openstacktest.Region},
		Identity: openstack.Identity{UserName: r.lab.Service, PasswordFile: r.password},
		Defaults: openstack.Defaults{AvailabilityZone: "nova", Image: r.lab.Image, SecurityGroups: []string{"K8S"}},
		Limits:   openstack.Limits{QPS: 100000, Burst: 100000},
		Cache: openstack.Cache{
			Quota: metav1.Duration{Duration: time.Nanosecond}, Trusts: metav1.Duration{Duration: time.Nanosecond},
			References: metav1.Duration{Duration: time.Nanosecond},
		},
	}
	if with.provider != nil {
		with.provider(r, &provider)
	}
	config := openstack.Config{Cluster: "caas", Providers: []openstack.Provider{provider}, Metrics: r.metrics}
	if with.config != nil {
		with.config(r, &config)
	}
	seam, err := openstack.New(config)
	require.NoError(t, err)
	t.Cleanup(seam.Close)
	r.Cloud = seam
	return r
}

// request is what creates a server for a node of a UID.
func (r rig) request(t *testing.T, name, uid string) cloud.Request {
	t.Helper()
	wanted := cloud.Wanted{
		AvailabilityZone: "nova", Flavor: r.lab.Medium, ImageName: r.lab.Image, KeyPair: "Lisa", SecurityGroups: []string{"K8S"},
	}
	resolved, err := r.Resolve(t.Context(), r.owner, wanted)
	require.NoError(t, err)
	return cloud.Request{
		Name: name, Wanted: wanted, Resolved: resolved, Tags: []string{"osn-caas"}, UserData: []byte("#cloud-config\n"),
		Metadata: map[string]string{osnodev1.MetaUID: uid, osnodev1.MetaCluster: "caas", osnodev1.MetaName: name},
	}
}

func TestLifeOfAServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{options: openstacktest.Options{Build: 50 * time.Millisecond, Deletion: 50 * time.Millisecond}})
	ctx := t.Context()

	mode, err := r.Authorize(ctx, r.owner)
	require.NoError(t, err)
	assert.Equal(t, openstack.ModeTrust, mode)

	made, err := r.Create(ctx, r.owner, r.request(t, "osn-01", "uid-1"))
	require.NoError(t, err)
	assert.Equal(t, cloud.StatusBuild, made.Status)
	assert.Equal(t, r.lab.Lisa, made.UserID)

	there := r.fake.Servers(r.lab.QST)
	require.Len(t, there, 1)
	assert.Equal(t, r.lab.Lisa, there[0].UserID, "the server is the owner's")
	assert.Equal(t, "Lisa", there[0].Key)
	assert.Equal(t, "#cloud-config\n", string(there[0].UserData))
	assert.Equal(t, []string{"osn-caas"}, there[0].Tags)
	assert.Len(t, there[0].SecurityGroups, 1)

	found, err := r.Find(ctx, r.owner, "osn-01", "uid-1")
	require.NoError(t, err)
	require.Len(t, found, 1)
	assert.Equal(t, made.ID, found[0].ID)

	require.Eventually(t, func() bool {
		server, err := r.Server(ctx, r.owner, made.ID)
		return err == nil && server.Status == cloud.StatusActive && len(server.Addresses) == 1
	}, 5*time.Second, 10*time.Millisecond)
	listing, err := r.List(ctx, r.owner, 0)
	require.NoError(t, err)
	require.Len(t, listing.Servers, 1)
	server := listing.Servers[0]
	assert.Equal(t, r.lab.Medium, server.FlavorName)
	assert.Equal(t, "QST-lan", server.Addresses[0].Network)
	assert.False(t, server.Addresses[0].Floating)
	assert.Equal(t, "uid-1", server.Metadata[osnodev1.MetaUID])
	assert.WithinDuration(t, time.Now(), listing.At, time.Minute)

	require.NoError(t, r.Delete(ctx, r.owner, made.ID))
	require.Eventually(t, func() bool {
		_, err := r.Server(ctx, r.owner, made.ID)
		return cloud.Is(err, cloud.NotFound)
	}, 5*time.Second, 10*time.Millisecond)
	require.NoError(t, r.Delete(ctx, r.owner, made.ID), "deleting twice is no error")
	assert.Zero(t, r.fake.Ports(r.lab.QST))
}

func TestFindTakesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	ours := map[string]string{osnodev1.MetaUID: "uid", osnodev1.MetaCluster: "caas"}
	put := func(name, project string, metadata map[string]string) string {
		return r.fake.Put(openstacktest.Instance{Name: name, ProjectID: project, UserID: r.lab.Lisa, Flavor: r.lab.Medium, Metadata: metadata})
	}
	want := put("a.b", r.lab.QST, ours)
	put("axb", r.lab.QST, ours)                                                                          // the dot is no wildcard
	put("a.b", r.lab.CMS, ours)                                                                          // another project
	put("a.b", r.lab.QST, nil)                                                                           // a user's own
	put("a.b", r.lab.QST, map[string]string{osnodev1.MetaUID: "uid", osnodev1.MetaCluster: "elsewhere"}) // another cluster's
	put("a.b", r.lab.QST, map[string]string{osnodev1.MetaUID: "other", osnodev1.MetaCluster: "caas"})
	foreign := put("mine", r.lab.QST, nil)
	// Mallory can write what she likes, but not be Lisa.
	forged := r.fake.Put(openstacktest.Instance{
		Name: "a.b", ProjectID: r.lab.QST, UserID: r.lab.Mallory, Flavor: r.lab.Medium,
		Metadata: map[string]string{osnodev1.MetaUID: "uid", osnodev1.MetaCluster: "caas", osnodev1.MetaOwner: r.lab.Lisa},
	})

	found, err := r.Find(t.Context(), r.owner, "a.b", "uid")
	require.NoError(t, err)
	require.Len(t, found, 1)
	assert.Equal(t, want, found[0].ID)

	listing, err := r.List(t.Context(), r.owner, 0)
	require.NoError(t, err)
	assert.Len(t, listing.Servers, 3, "all of this cluster in this project")

	require.Error(t, r.Delete(t.Context(), r.owner, foreign), "a server of somebody else's is left alone")
	require.Error(t, r.Delete(t.Context(), r.owner, forged))
	assert.Len(t, r.fake.Servers(""), 8)
}

func TestListIsShared(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	lists := openstacktest.Match{Method: "GET", Path: `/servers/detail`}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			_, err := r.List(t.Context(), r.owner, time.Minute)
			assert.NoError(t, err)
		})
	}
	group.Wait()
	assert.Equal(t, 1, r.faults.Count(lists))
	_, err := r.List(t.Context(), r.owner, 0)
	require.NoError(t, err)
	assert.Equal(t, 2, r.faults.Count(lists), "maxAge 0 is fresh")
}

func TestUserDataLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	request := r.request(t, "osn-01", "uid-1")
	request.UserData = bytes.Repeat([]byte("x"), 49152)
	before := len(r.faults.Calls())
	_, err := r.Create(t.Context(), r.owner, request)
	assert.True(t, cloud.Is(err, cloud.UserDataTooLarge), "%v", err)
	assert.Len(t, r.faults.Calls(), before, "nobody was asked")
	request.UserData = bytes.Repeat([]byte("x"), 49149)
	_, err = r.Create(t.Context(), r.owner, request)
	assert.NoError(t, err)
}

func TestSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&out, nil))
	logger.Info("made", "credential", openstack.ApplicationCredential{ID: "id", Secret: "hunter2"},
		"request", cloud.Request{Name: "osn", UserData: []byte("hunter2")})
	assert.NotContains(t, out.String(), "hunter2")
	assert.Contains(t, out.String(), "osn")
}

func TestRootVolume(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	request := r.request(t, "osn-01", "uid-1")
	request.Wanted.RootDiskGiB, request.Wanted.VolumeType = 40, "ssd"
	made, err := r.Create(t.Context(), r.owner, request)
	require.NoError(t, err)
	there := r.fake.Servers(r.lab.QST)
	require.Len(t, there, 1)
	assert.Equal(t, 40, there[0].VolumeGiB)
	assert.Equal(t, "ssd", there[0].VolumeType)
	assert.True(t, there[0].DeletesVolumeOnTermination)
	assert.Empty(t, there[0].Image)
	require.NoError(t, r.Delete(t.Context(), r.owner, made.ID))
	assert.Zero(t, r.fake.Volumes(r.lab.QST))
}

func TestSweep(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	request := r.request(t, "osn-01", "uid-1")
	request.Wanted.RootDiskGiB = 10
	made, err := r.Create(t.Context(), r.owner, request)
	require.NoError(t, err)
	_, err = r.Create(t.Context(), r.owner, r.request(t, "osn-02", "uid-2"))
	require.NoError(t, err)

	removed, err := r.Sweep(t.Context(), r.owner, "uid-1")
	require.NoError(t, err)
	assert.Empty(t, removed, "what a living server uses stays")

	r.fake.LeaveThings()
	require.NoError(t, r.Delete(t.Context(), r.owner, made.ID))
	require.Equal(t, 2, r.fake.Ports(r.lab.QST))
	removed, err = r.Sweep(t.Context(), r.owner, "uid-1")
	require.NoError(t, err)
	assert.Len(t, removed, 2)
	assert.Zero(t, r.fake.Volumes(r.lab.QST))
	assert.Equal(t, 1, r.fake.Ports(r.lab.QST), "the other server's port is still there")
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	accounts, err := r.Accounts(t.Context())
	require.NoError(t, err)
	var names []string
	for _, account := range accounts {
		names = append(names, account.ProjectName)
		assert.Empty(t, account.UserID)
		assert.Equal(t, openstacktest.Region, account.Region)
	}
	assert.ElementsMatch(t, []string{"service", "CMS", "QST"}, names)
}

func TestUnknownPlaces(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	_, err := r.Settings("nowhere")
	assert.True(t, cloud.Is(err, cloud.ProviderUnknown))
	account := r.owner
	account.Region = "nowhere"
	_, err = r.Quota(t.Context(), account)
	assert.True(t, cloud.Is(err, cloud.ProviderUnknown))
	settings, err := r.Settings("cloudveneto")
	require.NoError(t, err)
	assert.Equal(t, cloud.Settings{
		ID: "cloudveneto", DisplayName: "CloudVeneto", Region: openstacktest.Region, AvailabilityZone: "nova",
		ImageName: r.lab.Image, SecurityGroups: []string{"K8S"},
	}, settings)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	_, err := r.List(t.Context(), r.owner, 0)
	require.NoError(t, err)
	families, err := r.metrics.Gather()
	require.NoError(t, err)
	var text strings.Builder
	for _, family := range families {
		text.WriteString(family.String())
	}
	assert.Contains(t, text.String(), "osn_openstack_server_lists_total")
	assert.Contains(t, text.String(), `value:"compute"`)
	assert.Contains(t, text.String(), `value:"identity"`)
	assert.NotContains(t, text.String(), `value:"other"`)
}

func TestConfigurationProblems(t *testing.T) {
	t.Parallel()
	_, err := openstack.New(openstack.Config{Providers: []openstack.Provider{
		{ID: "a", AuthURL: "ftp://x", Networks: []string{"{{.Nonsense}}"}, Owner: openstack.Owner{Modes: []string{"admin"}}},
		{ID: "a", AuthURL: "http://x", Regions: []string{"r"}, SecurityGroups: openstack.SecurityGroups{SSHCIDRs: []string{"all"}}},
	}})
	require.Error(t, err)
	for _, want := range []string{
		"cluster: is required", "providers[0].authURL", "providers[0].regions", "providers[0].networks[0]", "providers[0].owner.modes[0]",
		`providers[1].id: "a" is there twice`, "providers[1].identity", "providers[1].securityGroups.sshCIDRs[0]",
	} {
		assert.ErrorContains(t, err, want)
	}
	var provider openstack.Provider
	require.NoError(t, yaml.UnmarshalStrict([]byte("id: a\ntimeout: 30s\nidentity: {userName: u, passwordFile: p}\nlimits: {qps: 5}\n"), &provider))
	assert.Equal(t, 30*time.Second, provider.Timeout.Duration)
	require.Error(t, yaml.UnmarshalStrict([]byte("id: a\nnope: 1\n"), &provider))
}

func TestNoRedirectToOtherHosts(t *testing.T) {
	t.Parallel()
	other := openstacktest.Start(openstacktest.Options{})
	t.Cleanup(other.Close)
	r := newRig(t, setup{})
	_, err := r.Quota(t.Context(), r.owner)
	require.NoError(t, err)
	r.faults.Add(openstacktest.Rule{
		Match:  openstacktest.Match{Method: "GET", Path: "/limits"},
		Answer: &openstacktest.Answer{Status: http.StatusFound, Header: http.Header{"Location": {other.AuthURL()}}},
	})
	_, err = r.Quota(t.Context(), r.owner)
	assert.True(t, cloud.Is(err, cloud.Unavailable), "%v", err)
	assert.ErrorContains(t, err, "redirect to another host")
}
