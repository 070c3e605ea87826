// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudveneto/caas/multitenancy/login/device"
	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/kubeconfig"
	"github.com/cloudveneto/caas/multitenancy/login/tokencache"
	"github.com/cloudveneto/caas/multitenancy/login/vault"
)

// loginOpenID logs in with a browser.
func (a *App) loginOpenID(ctx context.Context, o *options) error {
	site, err := a.site()
	if err != nil {
		return err
	}
	override(&site.OIDC.Issuer, o.issuer)
	override(&site.OIDC.ClientID, o.clientID)
	if site.OIDC.Issuer == "" || site.OIDC.ClientID == "" {
		return fail(CodeUsage, "the OpenID provider is not known; give it with -issuer and -client-id")
	}
	if len(o.projects) > 1 || o.allProjects {
		return fail(CodeUsage, "an OpenID login is for all your projects at once; give at most one -project, for the namespace")
	}
	override(&site.CAFile, o.ca)
	s, err := a.begin(site, o)
	if err != nil {
		return err
	}
	record := vault.Record{
		Kind: vault.OpenID, Issuer: site.OIDC.Issuer, ClientID: site.OIDC.ClientID, Scopes: site.OIDC.Scopes,
	}
	ca, err := pem(first(site.OIDC.CAFile, o.authCA, site.CAFile))
	if err != nil {
		return err
	}
	record.CA = string(ca)
	provider, err := a.provider(ctx, record, o)
	if err != nil {
		return err
	}
	tokens, err := provider.Login(ctx, func(prompt device.Prompt) {
		a.note("Open %s in a browser and enter the code %s", prompt.URL, prompt.Code)
		if prompt.Complete != "" {
			a.note("or open %s, and compare the code", prompt.Complete)
		}
		if !prompt.Expires.IsZero() {
			a.note("It is valid until %s.", prompt.Expires.Local().Format(time.TimeOnly))
		}
	})
	if err != nil {
		return err
	}
	return s.welcome(ctx, provider, tokens, record)
}

func (a *App) provider(ctx context.Context, record vault.Record, o *options) (*device.Provider, error) {
	return device.Discover(ctx, device.Config{
		Issuer: record.Issuer, ClientID: record.ClientID, Scopes: record.Scopes, CA: []byte(record.CA), Timeout: o.timeout, Now: a.Now,
	})
}

// welcome configures kubectl for somebody who has logged in.
func (s *session) welcome(ctx context.Context, provider *device.Provider, tokens device.Tokens, record vault.Record) error {
	server, err := s.platform(s.site.Server, s.ca, s.options)
	if err != nil {
		return err
	}
	who, err := server.whoami(ctx, string(tokens.ID))
	if err != nil {
		return err
	}
	if err := s.settle(&who); err != nil {
		return err
	}
	context := s.site.Name + "-" + who.Namespace
	record.Name = context + "-" + first(tokens.Name, who.User)
	record.User = identity.User{ID: tokens.Subject, Name: first(tokens.Name, who.User)}
	record.Project = identity.Project{ID: who.Project.ID, Name: who.Project.Name}
	record.Secret = tokens.Refresh
	change := kubeconfig.Change{
		Clusters: []kubeconfig.Cluster{{Name: s.site.Name, Server: s.site.Server, CA: s.ca}},
		Users: []kubeconfig.User{{Name: record.Name, Exec: s.plugin(record.Name), Mark: kubeconfig.Mark{
			Mode: modeOpenID, Issuer: record.Issuer, User: record.User.Name, UserID: record.User.ID,
			Project: record.Project.Name, ProjectID: record.Project.ID,
		}}},
		Contexts: []kubeconfig.Context{{Name: context, Cluster: s.site.Name, User: record.Name, Namespace: who.Namespace}},
		Current:  context, Force: s.options.force,
	}
	if err := s.checked(s.store.Check(change)); err != nil {
		return errors.Join(err, provider.Revoke(ctx, tokens.Refresh))
	}
	if tokens.Refresh == "" {
		s.note("note: the provider gives no refresh token, so this login ends at %s", tokens.Expires.Local().Format(time.DateTime))
	}
	store := s.vault(s.site)
	if _, err := store.Put(ctx, record); err != nil {
		return errors.Join(&ExitError{Code: CodeKubeconfig, Err: err}, provider.Revoke(ctx, tokens.Refresh))
	}
	if err := s.prime(ctx, record, tokens); err != nil {
		return err
	}
	result, err := s.store.Apply(ctx, change)
	if err != nil {
		return errors.Join(s.checked(err), store.Delete(ctx, record.Name), provider.Revoke(ctx, tokens.Refresh))
	}
	for _, backup := range result.Backups {
		s.note("the configuration as it was is in %s", backup)
	}
	_, err = fmt.Fprintln(s.Out, configured)
	return err
}

// settle finds the namespace, which somebody with several projects has to choose.
func (s *session) settle(who *person) error {
	wanted := ""
	if len(s.options.projects) == 1 {
		wanted = s.options.projects[0]
	}
	switch {
	case who.Namespace == "" && len(who.Projects) == 0:
		return fail(CodeProject, "the platform knows no project of yours; ask its operators")
	case who.Namespace == "":
		return s.pick(who, wanted)
	case wanted != "" && !strings.EqualFold(wanted, who.Project.Name) && wanted != who.Project.ID:
		return fail(CodeProject, "you are in the project %s, not in %s", who.Project.Name, wanted)
	}
	return nil
}

// pick finds the project that is wanted among somebody's.
func (s *session) pick(who *person, wanted string) error {
	var all []string
	for _, one := range who.Projects {
		if wanted != "" && (strings.EqualFold(one.Name, wanted) || one.ID == wanted) {
			who.Project, who.Namespace = one, namespaceByRule(one)
			s.note("note: the platform does not say which namespace the project %s has; taking %s", one.Name, who.Namespace)
			return nil
		}
		all = append(all, first(one.Name, one.ID))
	}
	if wanted == "" {
		return fail(CodeUsage, "which project? give it with -project; yours are %s", strings.Join(all, ", "))
	}
	return fail(CodeProject, "you are in no project %q; your projects are %s", wanted, strings.Join(all, ", "))
}

// prime puts the first token into the cache.
func (s *session) prime(ctx context.Context, record vault.Record, tokens device.Tokens) error {
	cache := s.cache(s.options)
	if _, _, err := cache.Forget(ctx, recordKey(record)); err != nil {
		return err
	}
	_, err := cache.Get(ctx, recordKey(record), "", tokencache.Source{Fetch: func(context.Context) (tokencache.Token, error) {
		return tokencache.Token{Value: string(tokens.ID), Issued: tokens.Issued, Expires: tokens.Expires}, nil
	}})
	return err
}

// refreshed renews an OpenID login's tokens. A provider may exchange the refresh token each time.
func (a *App) refreshed(store vault.Vault, record vault.Record, o *options) tokencache.Source {
	final := func(err error) bool { return codeOf(classified(err)) == CodeCredentials }
	return tokencache.Source{Final: final, Fetch: func(ctx context.Context) (tokencache.Token, error) {
		// Another run may have exchanged it while this one was waiting for its turn.
		current, err := store.Get(ctx, record.Name)
		if err != nil {
			return tokencache.Token{}, &ExitError{Code: CodeCredentials, Err: err}
		}
		if current.Secret == "" {
			return tokencache.Token{}, fail(CodeCredentials, "the login has ended; log in again: kubectl openstack -oidc")
		}
		provider, err := a.provider(ctx, current, o)
		if err != nil {
			return tokencache.Token{}, err
		}
		tokens, err := provider.Refresh(ctx, current.Secret)
		if err != nil {
			return tokencache.Token{}, err
		}
		if tokens.Refresh != current.Secret {
			current.Secret = tokens.Refresh
			if _, err := store.Put(ctx, current); err != nil {
				return tokencache.Token{}, &ExitError{Code: CodeCredentials, Err: err}
			}
		}
		return tokencache.Token{Value: string(tokens.ID), Issued: tokens.Issued, Expires: tokens.Expires}, nil
	}}
}

// leaveOpenID ends an OpenID login.
func (l *leaving) leaveOpenID(ctx context.Context, user kubeconfig.User) error {
	store := l.vault(l.site)
	record, err := store.Get(ctx, user.Name)
	if errors.Is(err, vault.ErrNone) {
		return nil
	}
	if err != nil {
		return &ExitError{Code: CodeCredentials, Err: err}
	}
	provider, err := l.provider(ctx, record, l.options)
	if err != nil {
		return err
	}
	if err := provider.Revoke(ctx, record.Secret); err != nil {
		return err
	}
	if _, _, err := l.cache(l.options).Forget(ctx, recordKey(record)); err != nil {
		return err
	}
	return store.Delete(ctx, user.Name)
}
