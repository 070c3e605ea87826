// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// trustLife is how long a trust made here is valid.
const trustLife = 90 * 24 * time.Hour

func (s *Session) ensureProject(ctx context.Context, name string) (id string, err error) {
	return s.ensure(ctx, "identity", "/projects", "?domain_id=default&name="+url.QueryEscape(name), "projects", "project",
		object{"name": name, "domain_id": "default"})
}

func (s *Session) ensureUser(ctx context.Context, name, password string) (id string, err error) {
	return s.ensure(ctx, "identity", "/users", "?domain_id=default&name="+url.QueryEscape(name), "users", "user",
		object{"name": name, "domain_id": "default", "password": password})
}

func (s *Session) ensureRole(ctx context.Context, name string) (id string, err error) {
	return s.ensure(ctx, "identity", "/roles", "?name="+url.QueryEscape(name), "roles", "role", object{"name": name})
}

// grant gives a user a role in a project. What he has already is no error.
func (s *Session) grant(ctx context.Context, project, user, role string) error {
	path := fmt.Sprintf("/projects/%s/users/%s/roles/%s", project, user, role)
	return s.Do(ctx, http.MethodPut, "identity", path, nil, nil)
}

// Trust makes a trust by which the platform's service user acts for a user in a project, as kubectl-openstack does: with
// the user's own password, impersonating, not to be passed on. The roles are the user's own; member when there is none.
func (s *Site) Trust(ctx context.Context, user, project string, roles ...string) (id string, err error) {
	trustee, err := s.User(ServiceUser)
	if err != nil {
		return "", err
	}
	session, err := s.Login(ctx, user, project)
	if err != nil {
		return "", err
	}
	if len(roles) == 0 {
		roles = []string{RoleMember}
	}
	var named []object
	for _, role := range roles {
		named = append(named, object{"name": role})
	}
	var made struct{ Trust resource }
	err = session.Do(ctx, http.MethodPost, "identity", "/OS-TRUST/trusts", object{"trust": object{
		"trustor_user_id": session.UserID, "trustee_user_id": trustee.ID, "project_id": session.ProjectID,
		"impersonation": true, "allow_redelegation": false, "roles": named,
		"expires_at": time.Now().Add(trustLife).UTC().Format("2006-01-02T15:04:05.000000Z"),
	}}, &made)
	if err != nil {
		return "", fmt.Errorf("make trust of %s in %s: %w", user, project, err)
	}
	return made.Trust.ID, nil
}

// ApplicationCredential is a user's credential for one project that programs log in with.
type ApplicationCredential struct{ ID, Secret string }

// AddApplicationCredential makes an application credential of a user for a project. Names are unique to the user.
func (s *Site) AddApplicationCredential(ctx context.Context, user, project, name string) (ApplicationCredential, error) {
	session, err := s.Login(ctx, user, project)
	if err != nil {
		return ApplicationCredential{}, err
	}
	made, err := session.addApplicationCredential(ctx, name)
	if err != nil {
		return ApplicationCredential{}, fmt.Errorf("make application credential %s of %s in %s: %w", name, user, project, err)
	}
	return made, nil
}

// ReplaceApplicationCredential is AddApplicationCredential in place of one with the same name, whose secret nobody may have
// any more.
func (s *Site) ReplaceApplicationCredential(ctx context.Context, user, project, name string) (ApplicationCredential, error) {
	session, err := s.Login(ctx, user, project)
	if err != nil {
		return ApplicationCredential{}, err
	}
	made, err := session.replaceApplicationCredential(ctx, name)
	if err != nil {
		return ApplicationCredential{}, fmt.Errorf("make application credential %s of %s in %s: %w", name, user, project, err)
	}
	return made, nil
}

func (s *Session) replaceApplicationCredential(ctx context.Context, name string) (ApplicationCredential, error) {
	made, err := s.addApplicationCredential(ctx, name)
	if StatusOf(err) != http.StatusConflict {
		return made, err
	}
	if err := s.deleteApplicationCredential(ctx, name); err != nil {
		return ApplicationCredential{}, err
	}
	return s.addApplicationCredential(ctx, name)
}

func (s *Session) addApplicationCredential(ctx context.Context, name string) (ApplicationCredential, error) {
	var made struct {
		Credential ApplicationCredential `json:"application_credential"`
	}
	err := s.Do(ctx, http.MethodPost, "identity", s.applicationCredentials(), object{"application_credential": object{"name": name}}, &made)
	return made.Credential, err
}

func (s *Session) deleteApplicationCredential(ctx context.Context, name string) error {
	var known struct {
		Credentials []resource `json:"application_credentials"`
	}
	if err := s.Do(ctx, http.MethodGet, "identity", s.applicationCredentials()+"?name="+url.QueryEscape(name), nil, &known); err != nil {
		return err
	}
	for _, one := range known.Credentials {
		if one.Name != name {
			continue
		}
		if err := s.Do(ctx, http.MethodDelete, "identity", s.applicationCredentials()+"/"+one.ID, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) applicationCredentials() string {
	return "/users/" + s.UserID + "/application_credentials"
}

// Revoke ends a token before its time.
func (s *Site) Revoke(ctx context.Context, token string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.AuthURL()+"/auth/tokens", http.NoBody)
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	request.Header.Set("X-Auth-Token", token)
	request.Header.Set("X-Subject-Token", token)
	answer, err := s.client.Do(request)
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	if answer.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("revoke token: status %s", answer.Status)
	}
	return errors.Join(err, answer.Body.Close())
}

// LoginTrust logs the platform's service user in by a trust: the session is the trustor's.
func (s *Site) LoginTrust(ctx context.Context, trust string) (*Session, error) {
	return s.login(ctx, ServiceUser, authentication{trust: trust})
}

// Login logs a user in to a project. Without a project the session is for nothing but finding out about the user.
func (s *Site) Login(ctx context.Context, user, project string) (*Session, error) {
	return s.login(ctx, user, authentication{project: project})
}

// LoginWith is Login with a password that the site need not have.
func (s *Site) LoginWith(ctx context.Context, user, password, project string) (*Session, error) {
	session, err := login(ctx, s.client, s.AuthURL(), authentication{user: user, password: password, project: project})
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", user, err)
	}
	return session, nil
}

// Admin logs in the user who may do everything.
func (s *Site) Admin(ctx context.Context) (*Session, error) {
	return s.Login(ctx, adminUser, adminUser)
}

func (s *Site) login(ctx context.Context, user string, who authentication) (*Session, error) {
	secret, err := s.Password(user)
	if err != nil {
		return nil, err
	}
	who.user, who.password = user, secret
	session, err := login(ctx, s.client, s.AuthURL(), who)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", user, err)
	}
	return session, nil
}

// AddUser makes a user, who is a member of the projects, and his password file. A user who exists keeps his password and
// is made a member.
func (s *Site) AddUser(ctx context.Context, name string, projects ...string) (User, error) {
	admin, err := s.Admin(ctx)
	if err != nil {
		return User{}, err
	}
	return s.addUser(ctx, admin, name, []string{RoleMember}, projects...)
}

func (s *Site) addUser(ctx context.Context, admin *Session, name string, roles []string, projects ...string) (User, error) {
	secret, err := s.ensurePassword(name)
	if err != nil {
		return User{}, err
	}
	id, err := admin.ensureUser(ctx, name, secret)
	if err != nil {
		return User{}, err
	}
	for _, project := range projects {
		if err := s.grantRoles(ctx, admin, id, project, roles); err != nil {
			return User{}, err
		}
	}
	return s.recordUser(ctx, id, name, projects)
}

// grantRoles gives a user the roles in a project, which are made if need be.
func (s *Site) grantRoles(ctx context.Context, admin *Session, user, project string, roles []string) error {
	at, err := s.Project(project)
	if err != nil {
		return err
	}
	for _, name := range roles {
		role, err := admin.ensureRole(ctx, name)
		if err != nil {
			return err
		}
		if err := admin.grant(ctx, at.ID, user, role); err != nil {
			return fmt.Errorf("grant %s to %s in %s: %w", name, user, project, err)
		}
	}
	return nil
}

// recordUser writes down that a user is in the projects, beside those that are known.
func (s *Site) recordUser(ctx context.Context, id, name string, projects []string) (User, error) {
	var user User
	err := s.change(ctx, func(state *state) {
		user = state.Users[name]
		user.ID, user.Name = id, name
		for _, project := range projects {
			if !slices.Contains(user.Projects, project) {
				user.Projects = append(user.Projects, project)
			}
		}
		state.Users[name] = user
	})
	return user, err
}
