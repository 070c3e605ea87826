// SPDX-License-Identifier: Apache-2.0

package openstack_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/openstack"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

func lasting(_ rig, p *openstack.Provider) {
	p.Cache.References = metav1.Duration{Duration: time.Hour}
	p.Cache.Trusts = metav1.Duration{Duration: time.Hour}
}

// TestFaultedCycles makes and deletes servers while replies of creations and deletions
// are lost, reads fail, and tokens die. Looking before asking keeps each node at one
// server, and nothing is left.
func TestFaultedCycles(t *testing.T) {
	t.Parallel()
	cycles := 2000
	if testing.Short() {
		cycles = 200
	}
	r := newRig(t, setup{provider: lasting, options: openstacktest.Options{Build: time.Millisecond, Deletion: time.Millisecond}})
	r.fake.SetQuota(r.lab.QST, openstacktest.Quota{Cores: -1, Instances: -1, MemoryMiB: -1})
	template := r.request(t, "osn", "uid")
	create := openstacktest.Match{Method: http.MethodPost, Path: "/servers$"}
	for _, rule := range []openstacktest.Rule{
		{Match: create, Probability: 0.1, Forward: true, Answer: &openstacktest.Answer{Status: http.StatusServiceUnavailable}},
		{Match: create, Probability: 0.05, Forward: true, Cut: true},
		{Match: create, Probability: 0.05, Answer: &openstacktest.Answer{Status: http.StatusBadGateway}},
		{Match: openstacktest.Match{Method: http.MethodDelete}, Probability: 0.05, Forward: true, Cut: true},
		{Match: openstacktest.Match{Method: http.MethodGet, Path: "/servers/"}, Probability: 0.005, Cut: true},
	} {
		r.faults.Add(rule)
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for i := next.Add(1); i <= int64(cycles); i = next.Add(1) {
				r.cycle(t, template, fmt.Sprintf("osn-%d", i))
				if i%500 == 0 {
					r.fake.RevokeTokens()
				}
			}
		})
	}
	workers.Wait()
	require.Eventually(t, func() bool { return len(r.fake.Servers("")) == 0 }, 5*time.Second, 10*time.Millisecond)
	assert.Zero(t, r.fake.Ports(r.lab.QST))
}

// cycle makes a server, sees it, and deletes it.
func (r rig) cycle(t *testing.T, template cloud.Request, name string) {
	t.Helper()
	request := r2(template, name, name+"-uid")
	var (
		found  []cloud.Server
		failed error
	)
	for range 20 {
		var err error
		if found, err = r.Find(t.Context(), r.owner, name, name+"-uid"); err != nil {
			failed = err
			continue
		}
		if len(found) > 0 {
			break
		}
		_, err = r.Create(t.Context(), r.owner, request)
		assert.Contains(t, []cloud.Class{"", cloud.Unavailable}, cloud.ClassOf(err), "%v", err)
	}
	if !assert.Len(t, found, 1, "%s: %v", name, failed) {
		return
	}
	assert.Eventually(t, func() bool { return r.Delete(t.Context(), r.owner, found[0].ID) == nil }, 10*time.Second, time.Millisecond)
}

// BenchmarkCycle is what making, finding and deleting a server costs with the fake: the
// seam, the fake and the HTTP between them.
func BenchmarkCycle(b *testing.B) {
	fake := openstacktest.Start(openstacktest.Options{})
	defer fake.Close()
	lab := fake.Populate()
	fake.SetQuota(lab.QST, openstacktest.Quota{Cores: -1, Instances: -1, MemoryMiB: -1})
	file := b.TempDir() + "/password"
	require.NoError(b, os.WriteFile(file, []byte(lab.ServicePassword), 0o600))
	provider := openstack.Provider{
		ID: "p", AuthURL: fake.AuthURL(), Regions: []string{openstacktest.Region},
		Identity: openstack.Identity{UserName: lab.Service, PasswordFile: file}, Limits: openstack.Limits{QPS: 1e6, Burst: 1e6},
	}
	lasting(rig{}, &provider)
	seam, err := openstack.New(openstack.Config{Cluster: "caas", Providers: []openstack.Provider{provider}})
	require.NoError(b, err)
	defer seam.Close()
	account := cloud.Account{Provider: "p", Region: openstacktest.Region, ProjectID: lab.QST, ProjectName: "QST", UserID: lab.Lisa}
	wanted := cloud.Wanted{Flavor: lab.Medium, ImageName: lab.Image, KeyPair: "Lisa"}
	resolved, err := seam.Resolve(b.Context(), account, wanted)
	require.NoError(b, err)
	userData := []byte(strings.Repeat("x", 8192))
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprintf("osn-%d", i)
		_, err := seam.Create(b.Context(), account, cloud.Request{
			Name: name, Wanted: wanted, Resolved: resolved, UserData: userData,
			Metadata: map[string]string{"osn.infn.it:uid": name, "osn.infn.it:cluster": "caas"},
		})
		require.NoError(b, err)
		found, err := seam.Find(b.Context(), account, name, name)
		require.NoError(b, err)
		require.Len(b, found, 1)
		require.NoError(b, seam.Delete(b.Context(), account, found[0].ID))
	}
}
