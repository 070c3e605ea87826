// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Keystone takes and gives times without saying that they are UTC.
const keystoneTime = "2006-01-02T15:04:05.000000"

// ApplicationCredential is a credential for one project, with fewer rights than its user.
type ApplicationCredential struct {
	ID, Name string
	Secret   Secret
	Expires  time.Time
}

// NewApplicationCredential is what to make.
type NewApplicationCredential struct {
	Name, Description string
	Roles             []string
	Expires           time.Time
}

func named(roles []string) []object {
	list := make([]object, 0, len(roles))
	for _, role := range roles {
		list = append(list, object{"name": role})
	}
	return list
}

// CreateApplicationCredential makes a restricted one for the token's user and project.
// A name that the user has given already is a Conflict.
func (c *Client) CreateApplicationCredential(ctx context.Context, token Token, wanted NewApplicationCredential) (ApplicationCredential, error) {
	var answer struct {
		Made struct {
			ID, Name, Secret string
		} `json:"application_credential"`
	}
	_, err := c.do(ctx, call{
		method: http.MethodPost, path: "/users/" + url.PathEscape(token.User.ID) + "/application_credentials", token: token.Value, out: &answer,
		in: object{"application_credential": object{
			"name": wanted.Name, "description": wanted.Description, "roles": named(wanted.Roles), "unrestricted": false,
			"expires_at": wanted.Expires.UTC().Format(keystoneTime),
		}},
	})
	return ApplicationCredential{ID: answer.Made.ID, Name: answer.Made.Name, Secret: Secret(answer.Made.Secret), Expires: wanted.Expires}, err
}

// DeleteApplicationCredential removes one; one that is not there is no error.
func (c *Client) DeleteApplicationCredential(ctx context.Context, token Token, id string) error {
	return gone(c.do(ctx, call{
		method: http.MethodDelete, token: token.Value, again: true,
		path: "/users/" + url.PathEscape(token.User.ID) + "/application_credentials/" + url.PathEscape(id),
	}))
}

func gone(_ http.Header, err error) error {
	if Is(err, NotFound) {
		return nil
	}
	return err
}

// Trust lets another user, the trustee, act for its trustor in a project.
type Trust struct {
	ID, ProjectID, TrustorID, TrusteeID string
	Impersonation                       bool
	Roles                               []string
	// Expires is zero for one without end.
	Expires time.Time
	Deleted bool
}

type wireTrust struct {
	ID            string                  `json:"id"`
	ProjectID     string                  `json:"project_id"`
	TrustorID     string                  `json:"trustor_user_id"`
	TrusteeID     string                  `json:"trustee_user_id"`
	Impersonation bool                    `json:"impersonation"`
	Roles         []struct{ Name string } `json:"roles"`
	ExpiresAt     *wireTime               `json:"expires_at"`
	DeletedAt     *json.RawMessage        `json:"deleted_at"`
}

// wireTime is a time with or without a zone; without, it is UTC. Keystone leaves the zone out, for example, when
// a token ends with the application credential that it was made with.
type wireTime struct{ time.Time }

// UnmarshalJSON reads a time as Keystone writes them.
func (t *wireTime) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil || text == "" {
		return err
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		at, err = time.Parse("2006-01-02T15:04:05.999999", text)
	}
	t.Time = at
	return err
}

func (w wireTrust) trust() Trust {
	trust := Trust{
		ID: w.ID, ProjectID: w.ProjectID, TrustorID: w.TrustorID, TrusteeID: w.TrusteeID, Impersonation: w.Impersonation,
		Deleted: w.DeletedAt != nil && string(*w.DeletedAt) != "null",
	}
	if w.ExpiresAt != nil {
		trust.Expires = w.ExpiresAt.Time
	}
	for _, role := range w.Roles {
		trust.Roles = append(trust.Roles, role.Name)
	}
	return trust
}

// Trusts lists the token's user's impersonating trusts to a trustee in the token's project,
// those that last longest first. They have no roles: Keystone does not list them.
func (c *Client) Trusts(ctx context.Context, token Token, trustee string) ([]Trust, error) {
	var answer struct{ Trusts []wireTrust }
	path := "/OS-TRUST/trusts?trustor_user_id=" + url.QueryEscape(token.User.ID)
	if _, err := c.do(ctx, call{method: http.MethodGet, path: path, token: token.Value, out: &answer, again: true}); err != nil {
		return nil, err
	}
	var found []Trust
	for _, wire := range answer.Trusts {
		trust := wire.trust()
		if trust.TrusteeID == trustee && trust.ProjectID == token.Project.ID && trust.TrustorID == token.User.ID && !trust.Deleted {
			found = append(found, trust)
		}
	}
	slices.SortStableFunc(found, func(a, b Trust) int {
		switch {
		case a.Expires.IsZero() && b.Expires.IsZero():
			return 0
		case a.Expires.IsZero():
			return -1
		case b.Expires.IsZero():
			return 1
		default:
			return b.Expires.Compare(a.Expires)
		}
	})
	return found, nil
}

// Trust is one of the token's user's, with its roles.
func (c *Client) Trust(ctx context.Context, token Token, id string) (Trust, error) {
	var answer struct{ Trust wireTrust }
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/OS-TRUST/trusts/" + url.PathEscape(id), token: token.Value, out: &answer, again: true})
	return answer.Trust.trust(), err
}

// CreateTrust lets a trustee act for the token's user in the token's project, with the roles, which MUST be the user's.
// It cannot be passed on.
func (c *Client) CreateTrust(ctx context.Context, token Token, trustee string, roles []string, expires time.Time) (Trust, error) {
	var answer struct{ Trust wireTrust }
	_, err := c.do(ctx, call{
		method: http.MethodPost, path: "/OS-TRUST/trusts", token: token.Value, out: &answer,
		in: object{"trust": object{
			"trustor_user_id": token.User.ID, "trustee_user_id": trustee, "project_id": token.Project.ID, "impersonation": true,
			"allow_redelegation": false, "roles": named(roles), "expires_at": expires.UTC().Format(keystoneTime + "Z"),
		}},
	})
	return answer.Trust.trust(), err
}

// DeleteTrust takes a trust back; one that is not there is no error.
func (c *Client) DeleteTrust(ctx context.Context, token Token, id string) error {
	return gone(c.do(ctx, call{method: http.MethodDelete, path: "/OS-TRUST/trusts/" + url.PathEscape(id), token: token.Value, again: true}))
}
