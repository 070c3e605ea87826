// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// described is a token as Keystone describes it.
type described struct {
	Token struct {
		User    User
		Project struct {
			ID, Name string
			Domain   Domain
		}
		Roles                 []struct{ Name string }
		Methods               []string
		ExpiresAt             wireTime            `json:"expires_at"`
		IssuedAt              wireTime            `json:"issued_at"`
		ApplicationCredential struct{ ID string } `json:"application_credential"`
	}
}

// Login gets a token. The scope of an application credential is its own.
func (c *Client) Login(ctx context.Context, who Credential, scope Scope) (Token, error) {
	auth := object{"identity": who.body()}
	if !who.IsApplicationCredential() {
		auth["scope"] = scope.body()
	}
	var answer described
	header, err := c.do(ctx, call{
		method: http.MethodPost, path: "/auth/tokens?nocatalog", in: object{"auth": auth}, out: &answer, again: who.Passcode == "",
	})
	if Is(err, NotFound) {
		// Keystone says so of an application credential that has been deleted.
		return Token{}, &Error{Kind: Unauthorized, Message: "Keystone does not know the credential, or not any more"}
	}
	if err != nil {
		return Token{}, err
	}
	value := header.Get("X-Subject-Token")
	if value == "" || strings.ContainsAny(value, " \r\n") {
		return Token{}, &Error{Kind: Network, Message: "what answers at " + c.url + " is not Keystone: there is no token in its answer"}
	}
	return c.token(Secret(value), answer, header), nil
}

// Inspect asks what a token is for. One that is not valid any more is Unauthorized.
func (c *Client) Inspect(ctx context.Context, token Secret) (Token, error) {
	var answer described
	header, err := c.do(ctx, call{method: http.MethodGet, path: "/auth/tokens?nocatalog", token: token, subject: token, out: &answer, again: true})
	if Is(err, NotFound) {
		return Token{}, &Error{Kind: Unauthorized, Message: "the token is not valid any more"}
	}
	if err != nil {
		return Token{}, err
	}
	return c.token(token, answer, header), nil
}

// Revoke ends a token. One that has ended already is no error.
func (c *Client) Revoke(ctx context.Context, token Secret) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: "/auth/tokens", token: token, subject: token, again: true})
	if Is(err, NotFound) || Is(err, Unauthorized) {
		return nil
	}
	return err
}

// Projects lists those that the token's user has a role in.
func (c *Client) Projects(ctx context.Context, token Secret) ([]Project, error) {
	var answer struct{ Projects []Project }
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/auth/projects", token: token, out: &answer, again: true})
	enabled := answer.Projects[:0]
	for _, project := range answer.Projects {
		if project.Enabled {
			enabled = append(enabled, project)
		}
	}
	return enabled, err
}

func (c *Client) token(value Secret, answer described, header http.Header) Token {
	said := answer.Token
	token := Token{
		Value: value, User: said.User, Methods: said.Methods, ApplicationCredentialID: said.ApplicationCredential.ID,
		Project: Project{ID: said.Project.ID, Name: said.Project.Name, DomainID: said.Project.Domain.ID, Enabled: true},
		Expires: said.ExpiresAt.Time, Issued: said.IssuedAt.Time,
	}
	for _, role := range said.Roles {
		token.Roles = append(token.Roles, role.Name)
	}
	// What Keystone says is by its clock.
	skew := c.skew(header)
	token.Expires, token.Issued, token.Skew = token.Expires.Add(skew), token.Issued.Add(skew), skew
	return token
}

// goodClock is how far clocks may be apart: a Date has whole seconds.
const goodClock = 2 * time.Second

// skew is how far this machine's clock is before Keystone's.
func (c *Client) skew(header http.Header) time.Duration {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return 0
	}
	skew := c.now().Sub(date)
	if skew.Abs() <= goodClock {
		return 0
	}
	return skew
}
