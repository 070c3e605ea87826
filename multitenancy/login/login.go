// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"fmt"
	"time"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/kubeconfig"
	"github.com/cloudveneto/caas/multitenancy/login/vault"
)

// configured is what a login prints when all is well.
const configured = "kubectl configured correctly"

// session is a login that is going on.
type session struct {
	*App

	options *options
	site    Site
	ca      []byte
	client  *identity.Client
	store   kubeconfig.Store
	// who is what the user has proven himself with.
	who    identity.Credential
	places []place
}

// place is a project with a token for it.
type place struct {
	token     identity.Token
	namespace string
	// record is the credential that renews the token, if there is one.
	record *vault.Record
	// superseded is the id of the application credential that was in use before.
	superseded string
}

func (p place) context(site Site) string { return site.Name + "-" + p.namespace }

func (p place) user(site Site) string { return p.context(site) + "-" + p.token.User.Name }

// login is the program's main command.
func (a *App) login(ctx context.Context, o *options) error {
	if o.oidc || o.issuer != "" {
		return a.loginOpenID(ctx, o)
	}
	site, err := a.site()
	if err != nil {
		return err
	}
	found, err := a.settings(&site, o)
	if err != nil {
		return err
	}
	s, err := a.begin(site, o)
	if err != nil {
		return err
	}
	if s.client, err = a.keystone(s.site, o); err != nil {
		return err
	}
	a.warn(o, s.client.URL())
	if s.who, err = a.credential(ctx, found.Credential, o); err != nil {
		return err
	}
	home, forget, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer forget()
	// A token that is not in the kubeconfig in the end is nobody's.
	kept := false
	defer func() {
		if !kept {
			s.dropTokens(ctx)
		}
	}()
	if err := s.visit(ctx, home, found.Scope); err != nil {
		return err
	}
	if err := s.locate(ctx); err != nil {
		return err
	}
	if err := s.configure(ctx); err != nil {
		return err
	}
	kept = !o.exec
	s.entrust(ctx)
	_, err = fmt.Fprintln(a.Out, configured)
	return err
}

// begin checks what does not need the network.
func (a *App) begin(site Site, o *options) (*session, error) {
	override(&site.Server, o.server)
	override(&site.Name, o.name)
	override(&site.CAFile, o.ca)
	if site.Server == "" {
		return nil, fail(CodeUsage, "the API server's address is not known; give it with -server, or ask for the file config.yaml for %s", a.configDir())
	}
	if o.allProjects && len(o.projects) > 0 {
		return nil, fail(CodeUsage, "-all-projects and -project exclude each other")
	}
	if o.yes && o.noTrust {
		return nil, fail(CodeUsage, "-yes and -no-trust exclude each other")
	}
	ca, err := pem(site.CAFile)
	if err != nil {
		return nil, err
	}
	if _, err := identity.Transport(ca); err != nil {
		return nil, fail(CodeUsage, "%s: %w", site.CAFile, err)
	}
	s := &session{App: a, options: o, site: site, ca: ca, store: a.kubeconfig(o)}
	// A file that cannot be used is worth knowing before the password is typed.
	return s, s.checked(s.store.Check(kubeconfig.Change{}))
}

func (a *App) kubeconfig(o *options) kubeconfig.Store {
	return kubeconfig.Store{Paths: kubeconfig.Paths(o.kubeconfig, a.get("KUBECONFIG"), a.Environment.Home), Now: a.Now}
}

// checked gives the kubeconfig's errors their codes.
func (s *session) checked(err error) error {
	switch {
	case err == nil:
		return nil
	case kubeconfig.Is(err, kubeconfig.Conflict):
		return &ExitError{Code: CodeConflict, Err: err}
	default:
		return &ExitError{Code: CodeKubeconfig, Err: err}
	}
}

// enter logs in to no project. forget revokes the token, which nobody needs afterwards.
func (s *session) enter(ctx context.Context) (home identity.Token, forget func(), err error) {
	home, err = s.client.Login(ctx, s.who, identity.Scope{})
	if identity.Is(err, identity.NeedsPasscode) && s.who.Passcode == "" && s.Terminal.Interactive() {
		var passcode string
		if passcode, err = s.Terminal.Line(ctx, "One-time passcode: ", true); err != nil {
			return home, nil, err
		}
		s.who.Passcode = identity.Secret(passcode)
		home, err = s.client.Login(ctx, s.who, identity.Scope{})
	}
	if identity.Is(err, identity.Unauthorized) {
		return home, nil, fail(CodeCredentials, "%w (user %s); check the password, and the domain (-domain)", err, s.name())
	}
	if err != nil {
		return home, nil, err
	}
	if skew := home.Skew.Round(time.Second); skew.Abs() > time.Minute {
		s.note("warning: this machine's clock is %s %s than Keystone's; set it, or certificates and tokens may be refused", skew.Abs(), ahead(skew))
	}
	return home, func() {
		if s.who.IsApplicationCredential() || s.who.Token != "" {
			return
		}
		s.drop(ctx, home.Value)
	}, nil
}

func ahead(skew time.Duration) string {
	if skew > 0 {
		return "later"
	}
	return "earlier"
}

func (s *session) name() string {
	for _, name := range []string{s.who.UserName, s.who.UserID, s.who.ApplicationCredentialName, s.who.ApplicationCredentialID} {
		if name != "" {
			return name
		}
	}
	return "of the token"
}

// configure writes the kubeconfig, and makes what it refers to.
func (s *session) configure(ctx context.Context) error {
	if err := s.checked(s.store.Check(s.change())); err != nil {
		return err
	}
	undo, err := s.delegateAll(ctx)
	var result kubeconfig.Result
	if err == nil {
		result, err = s.write(ctx)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.timeout)
		defer cancel()
		for _, one := range undo {
			one(ctx)
		}
		return err
	}
	for _, backup := range result.Backups {
		s.note("the configuration as it was is in %s", backup)
	}
	if len(s.places) > 1 {
		for _, one := range s.places {
			s.note("context %s: project %s, namespace %s", one.context(s.site), one.token.Project.Name, one.namespace)
		}
	}
	for _, one := range s.places {
		s.replaceCredential(ctx, one)
	}
	return nil
}

// write changes the kubeconfig, and revokes the tokens that were there.
func (s *session) write(ctx context.Context) (kubeconfig.Result, error) {
	before, err := s.store.View()
	if err != nil {
		return kubeconfig.Result{}, s.checked(err)
	}
	result, err := s.store.Apply(ctx, s.change())
	if err != nil {
		return result, s.checked(err)
	}
	s.retireTokens(ctx, before)
	return result, nil
}

// change is what the kubeconfig is to have.
func (s *session) change() kubeconfig.Change {
	change := kubeconfig.Change{
		Clusters: []kubeconfig.Cluster{{Name: s.site.Name, Server: s.site.Server, CA: s.ca}}, Force: s.options.force,
	}
	for _, one := range s.places {
		change.Users = append(change.Users, s.entry(one))
		change.Contexts = append(change.Contexts, kubeconfig.Context{
			Name: one.context(s.site), Cluster: s.site.Name, User: one.user(s.site), Namespace: one.namespace,
		})
	}
	change.Current = s.places[0].context(s.site)
	return change
}

// Modes of entries.
const (
	modeToken  = "token"
	modeExec   = "exec"
	modeOpenID = "oidc"
)

func (s *session) entry(at place) kubeconfig.User {
	token := at.token
	mark := kubeconfig.Mark{
		Mode: modeToken, AuthURL: s.client.URL(), User: token.User.Name, UserID: token.User.ID, Project: token.Project.Name, ProjectID: token.Project.ID,
		Trustee: s.site.Trustee.ID,
	}
	user := kubeconfig.User{Name: at.user(s.site), Mark: mark}
	if s.options.exec {
		user.Mark.Mode = modeExec
		user.Exec = s.plugin(user.Name)
		return user
	}
	user.Token = string(token.Value)
	user.Mark.Expires = token.Expires.UTC().Format(time.RFC3339)
	return user
}

// plugin is how kubectl gets a token of a credential.
func (s *session) plugin(name string) *kubeconfig.Exec {
	return &kubeconfig.Exec{Command: s.Executable, Args: []string{"get-token", "-credential=" + name}}
}

// retireTokens revokes the tokens that have just been replaced, so that a logout leaves none behind.
func (s *session) retireTokens(ctx context.Context, before kubeconfig.View) {
	for _, at := range s.places {
		old, known := before.User(at.user(s.site))
		if !known || old.Token == "" || old.Token == loggedOut || old.Mark.AuthURL != s.client.URL() || old.Token == string(at.token.Value) {
			continue
		}
		s.drop(ctx, identity.Secret(old.Token))
	}
}

// dropTokens revokes the tokens that nobody is going to use.
func (s *session) dropTokens(ctx context.Context) {
	for _, at := range s.places {
		s.drop(ctx, at.token.Value)
	}
}

// drop revokes a token, also when the program is being ended. One that cannot be revoked expires.
func (s *session) drop(ctx context.Context, token identity.Secret) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.timeout)
	defer cancel()
	if err := s.client.Revoke(ctx, token); err != nil {
		s.logger(s.options).DebugContext(ctx, "token not revoked", "reason", err)
	}
}
