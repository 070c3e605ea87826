// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"net/http"
	"os"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// session returns a session that is open, or opens it; those who need the same one at
// the same time wait for one login.
func (p *provider) session(ctx context.Context, key, project string, prepare func() *session) (*session, error) {
	if known := p.known(key); known != nil {
		return known, nil
	}
	result := p.opening.DoChan(key, func() (any, error) {
		if known := p.known(key); known != nil {
			return known, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.Timeout.Duration)
		defer cancel()
		made := prepare()
		made.provider = p
		if err := made.open(ctx, p.bucket(project)); err != nil {
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.sessions[key] = made
		return made, nil
	})
	select {
	case <-ctx.Done():
		return nil, explain("log in to OpenStack", ctx.Err())
	case got := <-result:
		if got.Err != nil {
			return nil, got.Err
		}
		made, _ := got.Val.(*session)
		return made, nil
	}
}

func (p *provider) known(key string) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[key]
}

func (p *provider) drop(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, key)
}

// password is the service user's login with a scope.
func (p *provider) password(scope tokens.Scope) credential {
	return func(context.Context) (*tokens.AuthOptions, error) {
		secret, err := os.ReadFile(p.Identity.PasswordFile)
		if err != nil {
			return nil, refusal(cloud.CredentialsInvalid, err, "The platform's password for OpenStack cannot be read")
		}
		options := &tokens.AuthOptions{
			UserID: p.Identity.UserID, Password: strings.TrimRight(string(secret), "\r\n"), Scope: scope,
		}
		if options.UserID == "" {
			options.Username, options.DomainName = p.Identity.UserName, p.Identity.UserDomain
		}
		return options, nil
	}
}

// home is the service user's session where it is at home: to see trusts and projects.
func (p *provider) home(ctx context.Context) (*session, error) {
	return p.session(ctx, "home", "", p.atHome)
}

func (p *provider) atHome() *session {
	scope := tokens.Scope{}
	if p.Identity.Project != "" {
		scope = tokens.Scope{ProjectName: p.Identity.Project, DomainName: p.Identity.ProjectDomain}
	}
	return &session{credential: p.password(scope), refused: func(_ context.Context, err error) error {
		return explain("log in to OpenStack as the platform", err)
	}}
}

// service is the service user's session in a project.
func (p *provider) service(ctx context.Context, project string) (*session, error) {
	return p.session(ctx, "service/"+project, project, func() *session {
		return &session{
			credential: p.password(tokens.Scope{ProjectID: project}),
			refused: func(ctx context.Context, err error) error {
				return p.outsider(ctx, err, "The platform has no role in the OpenStack project, or the project is gone")
			},
		}
	})
}

// outsider explains a refused login of the service user somewhere. Keystone says 401
// both when the password is wrong and when there is no role in the project; if the
// service user can still log in at home, it is the latter.
func (p *provider) outsider(ctx context.Context, err error, message string) error {
	switch {
	case gophercloud.ResponseCodeIs(err, http.StatusForbidden), gophercloud.ResponseCodeIs(err, http.StatusNotFound):
		return refusal(cloud.OwnerAuthorizationLost, err, "%s", message)
	case !gophercloud.ResponseCodeIs(err, http.StatusUnauthorized):
		return explain("log in to OpenStack", err)
	}
	try := p.atHome()
	try.provider = p
	if failure := try.open(ctx, p.bucket("")); failure != nil {
		return failure
	}
	return refusal(cloud.OwnerAuthorizationLost, err, "%s", message)
}

// Accounts lists every project, in every provider's regions, in which the service user
// has a role. When a provider does not answer, the others' are returned with the error.
func (c *Cloud) Accounts(ctx context.Context) ([]cloud.Account, error) {
	var (
		accounts []cloud.Account
		failed   error
	)
	for _, id := range c.order {
		p := c.providers[id]
		found, err := p.projects(ctx)
		if err != nil {
			failed = err
			continue
		}
		for _, project := range found {
			for _, region := range p.Regions {
				accounts = append(accounts, cloud.Account{
					Provider: id, Region: region, ProjectID: project.ID, ProjectName: project.Name,
				})
			}
		}
	}
	return accounts, failed
}

func (p *provider) projects(ctx context.Context) ([]projects.Project, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout.Duration)
	defer cancel()
	home, err := p.home(ctx)
	if err != nil {
		return nil, err
	}
	pages, err := projects.ListAvailable(home.keystone()).AllPages(ctx)
	if err != nil {
		return nil, explain("list the platform's OpenStack projects", err)
	}
	found, err := projects.ExtractProjects(pages)
	if err != nil {
		return nil, explain("list the platform's OpenStack projects", err)
	}
	enabled := found[:0]
	for _, project := range found {
		if project.Enabled && !project.IsDomain {
			enabled = append(enabled, project)
		}
	}
	return enabled, nil
}
