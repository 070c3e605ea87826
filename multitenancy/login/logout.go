// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudveneto/caas/multitenancy/login/clouds"
	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/kubeconfig"
	"github.com/cloudveneto/caas/multitenancy/login/vault"
)

// loggedOut is what stands for the token of somebody who has logged out.
const loggedOut = "logged-out"

// leaving is a logout that is going on.
type leaving struct {
	*session

	found clouds.Settings
	// home are tokens by Keystone's address, for what needs the password.
	home  map[string]identity.Token
	spent []spent
	// left is what could not be taken back.
	left []string
}

// logout takes back what logins have given.
func (a *App) logout(ctx context.Context, o *options) error {
	site, err := a.site()
	if err != nil {
		return err
	}
	found, err := a.settings(&site, o)
	if err != nil {
		return err
	}
	s := &session{App: a, options: o, site: site, store: a.kubeconfig(o)}
	view, err := s.store.View()
	if err != nil {
		return s.checked(err)
	}
	gone := selected(view.Users, o.projects)
	if len(gone) == 0 {
		return s.nobody(o)
	}
	l := &leaving{session: s, found: found, home: map[string]identity.Token{}}
	defer l.close(ctx)
	var projects []string
	for _, user := range gone {
		if err := l.leave(ctx, user); err != nil {
			return err
		}
		projects = append(projects, first(user.Mark.Project, user.Name))
	}
	if _, err := s.store.Apply(ctx, forgotten(view, gone, o.purge)); err != nil {
		return s.checked(err)
	}
	if _, err := fmt.Fprintf(a.Out, "logged out of %s\n", strings.Join(projects, ", ")); err != nil {
		return err
	}
	if len(l.left) > 0 {
		return fail(CodeCredentials, "Keystone still has %s; to take that back, log in, and out again with your password", strings.Join(l.left, ", and "))
	}
	return nil
}

func (s *session) nobody(o *options) error {
	if len(o.projects) > 0 {
		return fail(CodeProject, "the kubeconfig has no login for %s", o.projects.String())
	}
	_, err := fmt.Fprintln(s.Out, "not logged in")
	return err
}

// selected are the entries for the projects; all of them if none are named.
func selected(users []kubeconfig.User, projects list) []kubeconfig.User {
	var chosen []kubeconfig.User
	for _, user := range users {
		named := slices.ContainsFunc(projects, func(one string) bool {
			return strings.EqualFold(one, user.Mark.Project) || one == user.Mark.ProjectID
		})
		if len(projects) == 0 || named {
			chosen = append(chosen, user)
		}
	}
	return chosen
}

// leave takes back one entry's credentials. When Keystone does not answer, nothing here is
// touched, so that it can be tried again.
func (l *leaving) leave(ctx context.Context, user kubeconfig.User) error {
	if user.Mark.Mode == modeOpenID {
		return l.leaveOpenID(ctx, user)
	}
	store := l.vault(l.site)
	record, err := store.Get(ctx, user.Name)
	if err != nil {
		record = vault.Record{} // nothing is kept, or nothing that can be used
	}
	var ca []byte
	if ca, err = pem(l.site.AuthCAFile); err != nil {
		return err
	}
	if record.AuthCA != "" {
		ca = []byte(record.AuthCA)
	}
	if l.client, err = l.keystoneAt(user.Mark.AuthURL, ca, l.options); err != nil {
		return err
	}
	if err := l.takeBack(ctx, user, record); err != nil {
		return err
	}
	if user.Token != "" && user.Token != loggedOut {
		if err := l.client.Revoke(ctx, identity.Secret(user.Token)); err != nil {
			return err
		}
	}
	if record.Name == "" {
		return nil
	}
	known, found, err := l.cache(l.options).Forget(ctx, recordKey(record))
	if err != nil {
		return err
	}
	if found {
		if err := l.client.Revoke(ctx, identity.Secret(known.Value)); err != nil {
			return err
		}
	}
	return store.Delete(ctx, user.Name)
}

// takeBack deletes trusts and the application credential, for which Keystone wants a token of
// the user's own.
func (l *leaving) takeBack(ctx context.Context, user kubeconfig.User, record vault.Record) error {
	credential := record.ID != "" && !record.Borrowed
	if user.Mark.Trustee == "" && !credential {
		return nil
	}
	token, able, err := l.strong(ctx, user)
	if err != nil {
		return err
	}
	if !able {
		if credential {
			l.left = append(l.left, fmt.Sprintf("the application credential %s, whose secret is gone from here (until %s)",
				record.Label, record.Expires.Local().Format("2 January 2006")))
		}
		if user.Mark.Trustee != "" {
			l.left = append(l.left, "the trust for OSNodes in "+user.Mark.Project+", if there is one")
		}
		return nil
	}
	if err := l.deleteTrusts(ctx, token, user.Mark.Trustee); err != nil || !credential {
		return err
	}
	return l.client.DeleteApplicationCredential(ctx, token, record.ID)
}

func (l *leaving) deleteTrusts(ctx context.Context, token identity.Token, trustee string) error {
	if trustee == "" {
		return nil
	}
	trusts, err := l.client.Trusts(ctx, token, trustee)
	if err != nil {
		return err
	}
	for _, one := range trusts {
		if err := l.client.DeleteTrust(ctx, token, one.ID); err != nil {
			return err
		}
	}
	return nil
}

// strong is a token by the user's password, for the entry's project: the entry's own, or a new one.
// able is false if there is neither, and nobody to ask.
func (l *leaving) strong(ctx context.Context, user kubeconfig.User) (token identity.Token, able bool, err error) {
	if user.Token != "" && user.Token != loggedOut {
		token, err = l.client.Inspect(ctx, identity.Secret(user.Token))
		if err == nil && token.ApplicationCredentialID == "" {
			return token, true, nil
		}
		if err != nil && !identity.Is(err, identity.Unauthorized) {
			return token, false, err
		}
	}
	home, able, err := l.prove(ctx, user)
	if err != nil || !able {
		return token, false, err
	}
	token, err = l.client.Login(ctx, identity.Credential{Token: home.Value}, identity.Scope{ProjectID: user.Mark.ProjectID})
	if identity.Is(err, identity.Unauthorized) || identity.Is(err, identity.Forbidden) {
		// No role there any more: with it, trusts and application credentials have ended, too.
		return token, false, nil
	}
	if err == nil {
		l.spent = append(l.spent, spent{client: l.client, token: token.Value})
	}
	return token, err == nil, err
}

// prove logs the entry's user in by his password, once for all projects.
func (l *leaving) prove(ctx context.Context, user kubeconfig.User) (home identity.Token, able bool, err error) {
	if home, known := l.home[l.client.URL()]; known {
		return home, true, nil
	}
	who := l.found.Credential
	if who.IsApplicationCredential() {
		who = identity.Credential{}
	}
	if who.UserName == "" || strings.EqualFold(who.UserName, user.Mark.User) {
		who.UserID, who.UserName = user.Mark.UserID, ""
	}
	if who.Password == "" && !l.options.passwordStdin && l.options.password != "-" && !l.Terminal.Interactive() {
		return home, false, nil
	}
	if l.who, err = l.credential(ctx, who, l.options); err != nil {
		return home, false, err
	}
	if home, _, err = l.enter(ctx); err != nil {
		return home, false, err
	}
	l.home[l.client.URL()] = home
	l.spent = append(l.spent, spent{client: l.client, token: home.Value})
	return home, true, nil
}

// spent is a token that was got for the logout alone.
type spent struct {
	client *identity.Client
	token  identity.Secret
}

// close revokes the tokens that were got for the logout, also when that has failed or is being ended.
func (l *leaving) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.options.timeout)
	defer cancel()
	for _, one := range l.spent {
		if err := one.client.Revoke(ctx, one.token); err != nil {
			l.note("note: a token was not revoked: %v", err)
		}
	}
}

// forgotten is the kubeconfig after a logout.
func forgotten(view kubeconfig.View, gone []kubeconfig.User, purge bool) kubeconfig.Change {
	if purge {
		return kubeconfig.Change{Remove: purged(view, gone)}
	}
	var change kubeconfig.Change
	for _, user := range gone {
		if user.Exec == nil {
			user.Token, user.Mark.Expires = loggedOut, ""
			change.Users = append(change.Users, user)
		}
	}
	return change
}

// purged are the entries with their contexts, and clusters that nothing else uses.
func purged(view kubeconfig.View, gone []kubeconfig.User) kubeconfig.Names {
	var names kubeconfig.Names
	for _, user := range gone {
		names.Users = append(names.Users, user.Name)
	}
	used := map[string]bool{}
	for _, at := range view.Contexts {
		if slices.Contains(names.Users, at.User) {
			names.Contexts = append(names.Contexts, at.Name)
		} else {
			used[at.Cluster] = true
		}
	}
	for _, cluster := range view.Mine.Clusters {
		if !used[cluster] {
			names.Clusters = append(names.Clusters, cluster)
		}
	}
	return names
}
