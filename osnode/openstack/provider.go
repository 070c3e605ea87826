// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"net/http"
	"strings"
	"sync"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/trusts"
	"golang.org/x/sync/singleflight"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// provider is one OpenStack, with what is remembered of it.
type provider struct {
	Provider

	cluster string
	base    http.RoundTripper
	metrics *metrics

	trusts     *memo[[]trusts.Trust]
	flavors    *memo[[]cloud.Flavor]
	references *memo[string]
	quotas     *memo[cloud.Quota]
	listings   *memo[listed]
	traces     *traces
	opening    singleflight.Group

	mu       sync.Mutex
	buckets  map[string]*bucket
	sessions map[string]*session
}

func newProvider(cluster string, config Provider, base http.RoundTripper, counted *metrics) (*provider, error) {
	if base == nil {
		made, err := newTransport(config)
		if err != nil {
			return nil, err
		}
		base = made
	}
	timeout := config.Timeout.Duration
	return &provider{
		Provider:   config,
		cluster:    cluster,
		base:       base,
		metrics:    counted,
		trusts:     newMemo[[]trusts.Trust](timeout),
		flavors:    newMemo[[]cloud.Flavor](timeout),
		references: newMemo[string](timeout),
		quotas:     newMemo[cloud.Quota](timeout),
		listings:   newMemo[listed](timeout),
		traces:     newTraces(),
		buckets:    map[string]*bucket{},
		sessions:   map[string]*session{},
	}, nil
}

// bucket is what a project may do; the service's home has one too, under no name.
func (p *provider) bucket(project string) *bucket {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit, ok := p.buckets[project]
	if !ok {
		limit = newBucket(p.Limits)
		p.buckets[project] = limit
	}
	return limit
}

// keystone is the identity service's address, with its version and a slash.
func (p *provider) keystone() string {
	address := strings.TrimSuffix(p.AuthURL, "/")
	if !strings.HasSuffix(address, "/v3") {
		address += "/v3"
	}
	return address + "/"
}

func (p *provider) idle() {
	if closer, ok := p.base.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// projectKey begins the keys of what is remembered of a project.
func projectKey(account cloud.Account) string {
	return account.Region + "/" + account.ProjectID + "/"
}
