// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/trusts"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// news is how soon what was just made is seen, although such things are cached.
const news = 2 * time.Second

// trusted is a session by a trust that the owner made out to the service user. Nova
// then sees the owner: his key pairs, and his name on the server.
func (p *provider) trusted(ctx context.Context, account cloud.Account) (*session, error) {
	key := ownerKey(ModeTrust, account)
	if known := p.known(key); known != nil {
		// The session does not notice at once that the owner has taken the trust back.
		if _, err := p.trust(ctx, account); err != nil {
			if cloud.Is(err, cloud.NoTrust) {
				p.drop(key)
			}
			return nil, err
		}
		return known, nil
	}
	return p.session(ctx, key, account.ProjectID, func() *session {
		return &session{
			// The trust is looked for at each login: there may be a newer one by then.
			credential: func(ctx context.Context) (*tokens.AuthOptions, error) {
				trust, err := p.trust(ctx, account)
				if err != nil {
					return nil, err
				}
				return p.password(tokens.Scope{TrustID: trust.ID})(ctx)
			},
			refused: func(ctx context.Context, err error) error {
				p.trusts.forget("")
				return p.outsider(ctx, err, "OpenStack no longer lets the platform act for the owner: "+
					"the trust, the role in the project or the user is gone; log in again with kubectl openstack")
			},
			admit: p.admits(account),
		}
	})
}

// trust is the owner's impersonating trust for the project that lasts longest.
func (p *provider) trust(ctx context.Context, account cloud.Account) (trusts.Trust, error) {
	for _, age := range []time.Duration{p.Cache.Trusts.Duration, min(news, p.Cache.Trusts.Duration)} {
		known, err := p.trusts.get(ctx, "", age, p.listTrusts)
		if err != nil {
			return trusts.Trust{}, explain("look for the owner's trust", err)
		}
		if best, ok := longest(known.value, account, time.Now()); ok {
			return best, nil
		}
	}
	return trusts.Trust{}, refusal(cloud.NoTrust, nil,
		"The owner has not authorised the platform to create machines; run kubectl openstack login")
}

func (p *provider) listTrusts(ctx context.Context) ([]trusts.Trust, error) {
	home, err := p.home(ctx)
	if err != nil {
		return nil, err
	}
	// Keystone's filter by trustor asks for the trustor's rights, so that one is ours.
	options := trusts.ListOpts{TrusteeUserID: home.identity().userID}
	pages, err := trusts.List(home.keystone(), options).AllPages(ctx)
	if err != nil {
		return nil, explain("list trusts", err)
	}
	return trusts.ExtractTrusts(pages)
}

func longest(all []trusts.Trust, account cloud.Account, at time.Time) (best trusts.Trust, found bool) {
	for _, trust := range all {
		expired := !trust.ExpiresAt.IsZero() && !trust.ExpiresAt.After(at)
		if expired || !trust.DeletedAt.IsZero() || !trust.Impersonation ||
			trust.TrustorUserID != account.UserID || trust.ProjectID != account.ProjectID {
			continue
		}
		if !found || outlasts(trust, best) {
			best, found = trust, true
		}
	}
	return best, found
}

// outlasts tells that a trust is valid longer than another; without an end, for ever.
func outlasts(a, b trusts.Trust) bool {
	switch {
	case b.ExpiresAt.IsZero():
		return false
	case a.ExpiresAt.IsZero():
		return true
	default:
		return a.ExpiresAt.After(b.ExpiresAt)
	}
}
