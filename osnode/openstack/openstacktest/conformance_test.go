// SPDX-License-Identifier: Apache-2.0

package openstacktest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

func fakeSite(t *testing.T, options openstacktest.Options) openstacktest.Site {
	t.Helper()
	options.Host.VCPUs = 64
	fake := openstacktest.Start(options)
	t.Cleanup(fake.Close)
	return openstacktest.Site{
		AuthURL: fake.AuthURL(), Region: openstacktest.Region,
		AdminUser: "admin", AdminPassword: "admin", AdminProject: "admin",
		Image: fake.AddImage("image", "active"), HugeVCPUs: 100, Subnet: "10.99.0.0/24", Patience: 5 * time.Second,
	}
}

func TestFakeConforms(t *testing.T) {
	t.Parallel()
	openstacktest.Conformance(t, fakeSite(t, openstacktest.Options{}))
}

func TestSlowFakeConforms(t *testing.T) {
	t.Parallel()
	openstacktest.Conformance(t, fakeSite(t, openstacktest.Options{Build: 60 * time.Millisecond, Deletion: 60 * time.Millisecond}))
}

func TestProxiedFakeConforms(t *testing.T) {
	t.Parallel()
	site := fakeSite(t, openstacktest.Options{})
	faults := openstacktest.NewFaults(1)
	proxy, err := openstacktest.StartProxy(t.Context(), openstacktest.ProxyConfig{Upstream: site.AuthURL, Faults: faults})
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	site.AuthURL = proxy.AuthURL()
	openstacktest.Conformance(t, site)
	assert.NotZero(t, faults.Count(openstacktest.Match{Method: http.MethodPost, Path: "/servers$"}), "the catalog leads through the proxy")
}
