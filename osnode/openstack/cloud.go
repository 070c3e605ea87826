// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// Cloud is all configured OpenStacks. Its methods may be called concurrently; each has
// a deadline of its own besides the caller's.
type Cloud struct {
	providers   map[string]*provider
	order       []string
	credentials func(ctx context.Context, account cloud.Account) (ApplicationCredential, error)
	metrics     *metrics
}

// New makes a Cloud. It calls nobody: an OpenStack that is down is no reason not to start.
func New(config Config) (*Cloud, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("openstack configuration: %w", err)
	}
	c := &Cloud{
		providers:   make(map[string]*provider, len(config.Providers)),
		credentials: config.ApplicationCredential,
		metrics:     newMetrics(),
	}
	if err := c.metrics.register(config.Metrics); err != nil {
		return nil, fmt.Errorf("openstack metrics: %w", err)
	}
	for _, section := range config.Providers {
		var transport http.RoundTripper
		if config.Transport != nil {
			transport = config.Transport(section.ID)
		}
		made, err := newProvider(config.Cluster, section.withDefaults(), transport, c.metrics)
		if err != nil {
			return nil, fmt.Errorf("provider %q: %w", section.ID, err)
		}
		c.providers[section.ID] = made
		c.order = append(c.order, section.ID)
	}
	return c, nil
}

// Close lets go of idle connections.
func (c *Cloud) Close() {
	for _, p := range c.providers {
		p.idle()
	}
}

// Settings are what a provider's configuration says about new machines.
func (c *Cloud) Settings(provider string) (cloud.Settings, error) {
	p, err := c.provider(provider)
	if err != nil {
		return cloud.Settings{}, err
	}
	return p.settings(), nil
}

func (c *Cloud) provider(id string) (*provider, error) {
	p, ok := c.providers[id]
	if !ok {
		return nil, refusal(cloud.ProviderUnknown, nil, "There is no provider %q; there are %v", id, c.order)
	}
	return p, nil
}

// site is the provider of an account, whose region exists.
func (c *Cloud) site(account cloud.Account) (*provider, error) {
	p, err := c.provider(account.Provider)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(p.Regions, account.Region) {
		return nil, refusal(cloud.ProviderUnknown, nil, "Provider %q has no region %q; it has %v", p.ID, account.Region, p.Regions)
	}
	if account.ProjectID == "" {
		return nil, refusal(cloud.InvalidSpec, nil, "The project is not known")
	}
	return p, nil
}

// here is where an operation happens: a project of a provider's region, seen by the
// identity of a session.
type here struct {
	*provider
	*session

	account cloud.Account
	// mode is how the owner is acted for; empty if he is not.
	mode string
}

// inProject does something with the service's identity, within the operation's deadline.
func (c *Cloud) inProject(ctx context.Context, account cloud.Account, do func(ctx context.Context, at here) error) error {
	p, err := c.site(account)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.Timeout.Duration)
	defer cancel()
	s, err := p.service(ctx, account.ProjectID)
	if err != nil {
		return err
	}
	return do(ctx, here{provider: p, session: s, account: account})
}

// asOwner does something with the owner's identity, within so many times the operation's
// usual deadline.
func (c *Cloud) asOwner(
	ctx context.Context, account cloud.Account, times int, do func(ctx context.Context, at here) error,
) error {
	p, err := c.site(account)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(times)*p.Timeout.Duration)
	defer cancel()
	mode, s, err := c.authorize(ctx, p, account)
	if err != nil {
		return err
	}
	err = do(ctx, here{provider: p, session: s, account: account, mode: mode})
	if cloud.Is(err, cloud.OwnerAuthorizationLost) || cloud.Is(err, cloud.CredentialsInvalid) {
		p.forget(account)
	}
	return err
}
