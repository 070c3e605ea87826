// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"log/slog"
	"time"
)

// Secret is a password or a token. It shows itself only when converted to a string.
type Secret string

const hidden = "[hidden]"

// String hides the secret.
func (Secret) String() string { return hidden }

// GoString hides the secret.
func (Secret) GoString() string { return hidden }

// LogValue hides the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// Credential is how somebody proves who he is. An application credential comes before a
// token, and that before a password.
type Credential struct {
	UserID, UserName          string
	DomainID, DomainName      string
	Password, Passcode        Secret
	Token                     Secret
	ApplicationCredentialID   string
	ApplicationCredentialName string
	ApplicationCredentialKey  Secret
}

// IsApplicationCredential tells that it is one, which has a project of its own.
func (c Credential) IsApplicationCredential() bool {
	return c.ApplicationCredentialID != "" || c.ApplicationCredentialName != ""
}

// Complete tells that there is a secret to log in with.
func (c Credential) Complete() bool {
	switch {
	case c.IsApplicationCredential():
		return c.ApplicationCredentialKey != ""
	case c.Token != "":
		return true
	default:
		return (c.UserID != "" || c.UserName != "") && (c.Password != "" || c.Passcode != "")
	}
}

// Scope is what a token is for; without a project it is for asking Keystone only.
type Scope struct{ ProjectID, ProjectName, DomainID, DomainName string }

func (s Scope) none() bool { return s.ProjectID == "" && s.ProjectName == "" }

// Domain owns users and projects.
type Domain struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// Project is one of OpenStack's.
type Project struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	DomainID string `json:"domain_id,omitempty"`
	Enabled  bool   `json:"enabled,omitempty"`
}

// User is one of OpenStack's.
type User struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Domain Domain `json:"domain"`
}

// Token is a token with what Keystone says of it.
type Token struct {
	Value   Secret
	User    User
	Project Project
	Roles   []string
	Methods []string
	// Expires is by this machine's clock, also when that is wrong.
	Expires time.Time
	// Issued is by this machine's clock too.
	Issued time.Time
	// Skew is how far this machine's clock is before Keystone's: 0 if it is not known, or good enough.
	Skew time.Duration
	// ApplicationCredentialID is the credential's that it was made with, if it was.
	ApplicationCredentialID string
}

type object = map[string]any

func (c Credential) body() object {
	switch {
	case c.IsApplicationCredential():
		return c.applicationCredential()
	case c.Token != "":
		return object{"methods": []string{"token"}, "token": object{"id": string(c.Token)}}
	}
	methods, body := []string{}, object{}
	if c.Password != "" {
		methods = append(methods, "password")
		body["password"] = object{"user": c.user("password", c.Password)}
	}
	if c.Passcode != "" {
		methods = append(methods, "totp")
		body["totp"] = object{"user": c.user("passcode", c.Passcode)}
	}
	body["methods"] = methods
	return body
}

func (c Credential) applicationCredential() object {
	credential := object{"secret": string(c.ApplicationCredentialKey)}
	if c.ApplicationCredentialID != "" {
		credential["id"] = c.ApplicationCredentialID
	} else {
		credential["name"] = c.ApplicationCredentialName
		credential["user"] = c.user("", "")
	}
	return object{"methods": []string{"application_credential"}, "application_credential": credential}
}

func (c Credential) user(field string, secret Secret) object {
	user := object{}
	if c.UserID != "" {
		user["id"] = c.UserID
	} else {
		user["name"], user["domain"] = c.UserName, domain(c.DomainID, c.DomainName)
	}
	if field != "" {
		user[field] = string(secret)
	}
	return user
}

// domain names a domain; the default one when none is named.
func domain(id, name string) object {
	switch {
	case id != "":
		return object{"id": id}
	case name != "":
		return object{"name": name}
	default:
		return object{"id": "default"}
	}
}

func (s Scope) body() object {
	if s.none() {
		return object{"unscoped": object{}}
	}
	if s.ProjectID != "" {
		return object{"project": object{"id": s.ProjectID}}
	}
	return object{"project": object{"name": s.ProjectName, "domain": domain(s.DomainID, s.DomainName)}}
}
