// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// ApplicationCredential is an owner's credential for one project.
type ApplicationCredential struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
}

// LogValue keeps the secret out of logs.
func (a ApplicationCredential) LogValue() slog.Value { return slog.StringValue(a.ID) }

// Authorize finds out whether the platform may act for an account's owner, and how. It
// fails with NoTrust or OwnerAuthorizationLost if the owner has to do something,
// CredentialsInvalid if the operator has to, or Unavailable if it is not known.
func (c *Cloud) Authorize(ctx context.Context, account cloud.Account) (mode string, err error) {
	p, err := c.site(account)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, p.Timeout.Duration)
	defer cancel()
	mode, s, err := c.authorize(ctx, p, account)
	if err != nil {
		return "", err
	}
	if err = p.confirm(ctx, s, mode, account); err == nil {
		return mode, nil
	}
	if !lost(err) {
		return "", err
	}
	p.forget(account)
	// The owner may have given another authorisation, or a later mode be for him.
	if mode, _, err = c.authorize(ctx, p, account); err != nil {
		return "", err
	}
	return mode, nil
}

// lost tells that OpenStack has said that an authorisation does not hold. One that does not answer says nothing.
func lost(err error) bool {
	return cloud.Is(err, cloud.NoTrust) || cloud.Is(err, cloud.OwnerAuthorizationLost) || cloud.Is(err, cloud.CredentialsInvalid)
}

// confirm logs in anew for an owner whose login is some time ago. Services remember tokens
// for minutes and would go on making machines for somebody who has left the project.
func (p *provider) confirm(ctx context.Context, s *session, mode string, account cloud.Account) error {
	if mode == ModeService || s.age() <= p.Cache.Trusts.Duration {
		return nil
	}
	done := p.opening.DoChan("confirm/"+ownerKey(mode, account), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.Timeout.Duration)
		defer cancel()
		return nil, s.renew(ctx)
	})
	select {
	case <-ctx.Done():
		return explain("log in to OpenStack for the owner", ctx.Err())
	case got := <-done:
		return got.Err
	}
}

// authorize tries the provider's modes in their order. A later one is for owners
// without the earlier; it does not stand in for an OpenStack that does not answer,
// lest the same owner's servers belong to different users.
func (c *Cloud) authorize(ctx context.Context, p *provider, account cloud.Account) (string, *session, error) {
	if account.UserID == "" {
		return "", nil, refusal(cloud.NoTrust, nil, "The owner's OpenStack user is not known")
	}
	var first error
	for _, mode := range p.Owner.Modes {
		s, err := c.impersonate(ctx, p, account, mode)
		if err == nil {
			return mode, s, nil
		}
		if !cloud.Is(err, cloud.NoTrust) && !cloud.Is(err, cloud.OwnerAuthorizationLost) {
			return "", nil, err
		}
		if first == nil {
			first = err
		}
	}
	return "", nil, first
}

func (c *Cloud) impersonate(ctx context.Context, p *provider, account cloud.Account, mode string) (*session, error) {
	switch mode {
	case ModeTrust:
		return p.trusted(ctx, account)
	case ModeApplicationCredential:
		return c.credentialed(ctx, p, account)
	default:
		return p.service(ctx, account.ProjectID)
	}
}

// ownerKey is the key of an owner's session in a mode.
func ownerKey(mode string, account cloud.Account) string {
	return mode + "/" + account.ProjectID + "/" + account.UserID
}

// forget drops what is known of an owner's authorisation.
func (p *provider) forget(account cloud.Account) {
	p.drop(ownerKey(ModeTrust, account))
	p.drop(ownerKey(ModeApplicationCredential, account))
	p.trusts.forget("")
}

// admits checks that a login is for the account's owner and project, and may do what
// is needed.
func (p *provider) admits(account cloud.Account) func(who identity) error {
	return func(who identity) error {
		if who.userID != account.UserID || who.projectID != account.ProjectID {
			return refusal(cloud.OwnerAuthorizationLost, nil, "The authorisation found is not the owner's for this project")
		}
		for _, role := range p.Owner.Roles {
			if !slices.ContainsFunc(who.roles, func(has string) bool { return strings.EqualFold(has, role) }) {
				return refusal(cloud.NoTrust, nil, "The owner's authorisation lacks the role %q; log in again with kubectl openstack", role)
			}
		}
		return nil
	}
}

func (c *Cloud) credentialed(ctx context.Context, p *provider, account cloud.Account) (*session, error) {
	lookUp := c.credentials
	if lookUp == nil {
		lookUp = p.credentialFile
	}
	return p.session(ctx, ownerKey(ModeApplicationCredential, account), account.ProjectID, func() *session {
		return &session{
			credential: func(ctx context.Context) (*tokens.AuthOptions, error) {
				found, err := lookUp(ctx, account)
				if err != nil {
					return nil, refusal(cloud.CredentialsInvalid, err, "The owner's application credential cannot be read")
				}
				if found.ID == "" {
					return nil, refusal(cloud.NoTrust, nil, "There is no application credential of the owner for this project")
				}
				return &tokens.AuthOptions{ApplicationCredentialID: found.ID, ApplicationCredentialSecret: found.Secret}, nil
			},
			refused: func(_ context.Context, err error) error {
				if code := codeOf(err); code == 401 || code == 403 || code == 404 {
					return refusal(cloud.OwnerAuthorizationLost, err, "OpenStack refuses the owner's application credential")
				}
				return explain("log in to OpenStack for the owner", err)
			},
			admit: p.admits(account),
		}
	})
}

// plainID is what Keystone's ids are made of, so that they can be names of files.
var plainID = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// credentialFile reads <directory>/<user>/<project>.yaml; no file is no credential.
func (p *provider) credentialFile(_ context.Context, account cloud.Account) (ApplicationCredential, error) {
	var found ApplicationCredential
	if !plainID.MatchString(account.UserID) || !plainID.MatchString(account.ProjectID) {
		return found, errors.New("user or project id has characters that ids do not have")
	}
	text, err := os.ReadFile(filepath.Join(p.Owner.ApplicationCredentials, account.UserID, account.ProjectID+".yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil {
		return found, err
	}
	if err := yaml.UnmarshalStrict(text, &found); err != nil {
		return ApplicationCredential{}, errors.New("application credential file: want the keys id and secret")
	}
	return found, nil
}
