// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/cloudveneto/caas/multitenancy/login/clouds"
	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/kubeconfig"
)

// standing is what there is to say of a context.
type standing struct {
	Context string `json:"context"`
	Current bool   `json:"current"`
	User    string `json:"user"`
	Project string `json:"project"`
	Mode    string `json:"mode"`
	// State is valid, expired, revoked, logged out, or unknown.
	State string     `json:"state"`
	Until *time.Time `json:"until,omitempty"`
	// Trust is when the platform's right to create machines ends.
	Trust string `json:"trust"`
}

const (
	stateValid   = "valid"
	stateExpired = "expired"
	stateRevoked = "revoked"
	stateOut     = "logged out"
	stateUnknown = "unknown"
	noValue      = "-"
)

// status shows all contexts of this program.
func (a *App) status(ctx context.Context, o *options) error {
	site, err := a.site()
	if err != nil {
		return err
	}
	s := &session{App: a, options: o, site: site, store: a.kubeconfig(o)}
	view, err := s.store.View()
	if err != nil {
		return s.checked(err)
	}
	rows := []standing{}
	for _, at := range view.Contexts {
		user, mine := view.User(at.User)
		if !mine {
			continue
		}
		row := s.standing(ctx, user)
		row.Context, row.Current = at.Name, at.Name == view.Current
		rows = append(rows, row)
	}
	return a.print(o, rows, func(out io.Writer) {
		_, _ = fmt.Fprintln(out, "CONTEXT\tPROJECT\tUSER\tMODE\tSTATE\tUNTIL\tOSNODES UNTIL")
		for _, row := range rows {
			until := noValue
			if row.Until != nil {
				until = row.Until.Local().Format(time.DateTime)
			}
			current := ""
			if row.Current {
				current = "*"
			}
			_, _ = fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
				current+row.Context, first(row.Project, noValue), row.User, row.Mode, row.State, until, row.Trust)
		}
	})
}

// standing asks Keystone how an entry stands.
func (s *session) standing(ctx context.Context, user kubeconfig.User) standing {
	row := standing{User: user.Mark.User, Project: user.Mark.Project, Mode: user.Mark.Mode, State: stateUnknown, Trust: noValue}
	value, able := user.Token, true
	if user.Exec != nil {
		value, able = s.renewed(ctx, user, &row)
	} else if expires, err := time.Parse(time.RFC3339, user.Mark.Expires); err == nil {
		row.Until, row.State = &expires, stateValid
		if able = expires.After(s.Now()); !able {
			row.State = stateExpired
		}
	}
	if value == loggedOut || user.Exec == nil && value == "" {
		row.State, row.Until, able = stateOut, nil, false
	}
	if able && user.Mark.Mode != modeOpenID {
		s.verify(ctx, user, value, &row)
	}
	return row
}

// renewed is the token of an entry whose token is renewed by itself; able is false if there is none.
func (s *session) renewed(ctx context.Context, user kubeconfig.User, row *standing) (value string, able bool) {
	record, err := s.vault(s.site).Get(ctx, user.Name)
	if err != nil {
		row.State = stateOut
		return "", false
	}
	if !record.Expires.IsZero() {
		row.Until = &record.Expires
	}
	if value, err = s.tokenOf(ctx, user, s.options); err != nil {
		if codeOf(classified(err)) == CodeCredentials {
			row.State = stateExpired
		}
		return "", false
	}
	row.State = stateValid
	return value, true
}

// verify asks whether the token still works, and for the trust.
func (s *session) verify(ctx context.Context, user kubeconfig.User, value string, row *standing) {
	ca, err := pem(first(s.site.AuthCAFile, s.site.CAFile))
	if record, known := s.vault(s.site).Get(ctx, user.Name); known == nil && record.AuthCA != "" {
		ca, err = []byte(record.AuthCA), nil
	}
	if err != nil {
		return
	}
	client, err := s.keystoneAt(user.Mark.AuthURL, ca, s.options)
	if err != nil {
		return
	}
	token, err := client.Inspect(ctx, identity.Secret(value))
	switch {
	case identity.Is(err, identity.Unauthorized):
		row.State = stateRevoked
		return
	case err != nil:
		row.State = stateUnknown
		s.note("note: %v", err)
		return
	}
	if user.Mark.Trustee == "" {
		return
	}
	trusts, err := client.Trusts(ctx, token, user.Mark.Trustee)
	switch {
	case err != nil:
		row.Trust = stateUnknown
	case len(trusts) == 0:
		row.Trust = "no trust"
	case trusts[0].Expires.IsZero():
		row.Trust = "without end"
	default:
		row.Trust = trusts[0].Expires.Local().Format(time.DateOnly)
	}
}

// ready is a token to ask Keystone with: by what the flags and the environment say, or the kubeconfig's.
func (s *session) ready(ctx context.Context, view kubeconfig.View, found clouds.Settings) (identity.Token, *identity.Client, func(), error) {
	nothing := func() {}
	at, _ := view.Context(view.Current)
	user, mine := view.User(at.User)
	given := found.Credential.Complete() || s.options.passwordStdin || s.options.has("user")
	if !given && mine && user.Mark.Mode != modeOpenID {
		value, err := s.tokenOf(ctx, user, s.options)
		if err != nil {
			return identity.Token{}, nil, nothing, err
		}
		ca, err := pem(s.site.AuthCAFile)
		if err != nil {
			return identity.Token{}, nil, nothing, err
		}
		client, err := s.keystoneAt(user.Mark.AuthURL, ca, s.options)
		return identity.Token{Value: identity.Secret(value)}, client, nothing, err
	}
	var err error
	if s.client, err = s.keystone(s.site, s.options); err != nil {
		return identity.Token{}, nil, nothing, err
	}
	if s.who, err = s.credential(ctx, found.Credential, s.options); err != nil {
		return identity.Token{}, nil, nothing, err
	}
	home, done, err := s.enter(ctx)
	return home, s.client, done, err
}
