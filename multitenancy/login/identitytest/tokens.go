// SPDX-License-Identifier: Apache-2.0

package identitytest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

type wireUser struct {
	ID, Name, Password, Passcode string
	Domain                       struct{ ID, Name string }
}

type wireAuth struct {
	Auth struct {
		Identity struct {
			Methods               []string
			Password, TOTP        struct{ User wireUser }
			Token                 struct{ ID string }
			ApplicationCredential struct {
				ID, Name, Secret string
				User             wireUser
			} `json:"application_credential"`
		}
		Scope *struct {
			Project *struct {
				ID, Name string
				Domain   struct{ ID, Name string }
			}
			Unscoped *struct{}
		}
	}
}

const wrong = "The request you have made requires authentication."

// login is called with the lock held, like all that answers.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	var asked wireAuth
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	token := Token{Value: fernet(), Expires: s.now().Add(s.life), Methods: asked.Auth.Identity.Methods}
	user, status := s.prove(asked, &token)
	if status != 0 {
		if status == http.StatusUnauthorized && user.Passcode != "" {
			w.Header().Set("Openstack-Auth-Receipt", "receipt")
		}
		refuse(w, status, wrong)
		return
	}
	token.UserID = user.ID
	if scope := asked.Auth.Scope; token.Credential == "" && scope != nil && scope.Project != nil {
		at := slices.IndexFunc(s.all(), func(p Project) bool {
			return p.ID == scope.Project.ID || scope.Project.ID == "" && p.Name == scope.Project.Name
		})
		if at < 0 || len(user.Roles[s.all()[at].Name]) == 0 || s.all()[at].Disabled {
			refuse(w, http.StatusUnauthorized, wrong)
			return
		}
		project := s.all()[at]
		token.ProjectID, token.Roles = project.ID, user.Roles[project.Name]
	}
	s.tokens[token.Value] = token
	w.Header().Set("X-Subject-Token", token.Value)
	s.describe(w, http.StatusCreated, token)
}

// prove finds out who asks. A status of 0 is that he has proven it.
func (s *Server) prove(asked wireAuth, token *Token) (User, int) {
	how := asked.Auth.Identity
	switch {
	case slices.Contains(how.Methods, "application_credential"):
		return s.proveCredential(how.ApplicationCredential.ID, how.ApplicationCredential.Secret, token)
	case slices.Contains(how.Methods, "token"):
		before, there := s.tokens[how.Token.ID]
		if !there || !s.usable(before) {
			return User{}, http.StatusUnauthorized
		}
		token.Expires = before.Expires
		return s.users[before.UserID], 0
	default:
		return s.provePassword(how.Password.User, how.TOTP.User.Passcode)
	}
}

func (s *Server) proveCredential(id, secret string, token *Token) (User, int) {
	one, there := s.creds[id]
	if !there {
		return User{}, http.StatusNotFound
	}
	if one.Secret != secret || !one.Expires.After(s.now()) {
		return User{}, http.StatusUnauthorized
	}
	token.Credential, token.ProjectID, token.Roles = one.ID, one.ProjectID, one.Roles
	if one.Expires.Before(token.Expires) {
		token.Expires = one.Expires
	}
	return s.users[one.UserID], 0
}

func (s *Server) provePassword(given wireUser, passcode string) (User, int) {
	for _, user := range s.users {
		if given.ID != user.ID && (given.Name != user.Name || given.Domain.ID != "default" && given.Domain.Name != "Default") {
			continue
		}
		if given.Password != user.Password {
			return User{}, http.StatusUnauthorized
		}
		if user.Passcode != "" && passcode != user.Passcode {
			return user, http.StatusUnauthorized
		}
		return user, 0
	}
	return User{}, http.StatusUnauthorized
}

func (s *Server) all() []Project {
	all := make([]Project, 0, len(s.projects))
	for _, one := range s.projects {
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Project) int { return strings.Compare(a.ID, b.ID) })
	return all
}

func (s *Server) project(id string) Project {
	for _, one := range s.projects {
		if one.ID == id {
			return one
		}
	}
	return Project{}
}

func (s *Server) describe(w http.ResponseWriter, status int, token Token) {
	user := s.users[token.UserID]
	domain := object{"id": "default", "name": "Default"}
	body := object{
		"methods": token.Methods, "user": object{"id": user.ID, "name": user.Name, "domain": domain},
		"issued_at": s.now().UTC().Format(wireTime), "expires_at": token.Expires.UTC().Format(wireTime),
	}
	if token.ProjectID != "" {
		body["project"] = object{"id": token.ProjectID, "name": s.project(token.ProjectID).Name, "domain": domain}
		body["roles"] = named(token.Roles)
	}
	if token.Credential != "" {
		body["application_credential"] = object{"id": token.Credential, "restricted": true}
		// The real one leaves the zone out of a time that it has from the credential.
		body["expires_at"] = strings.TrimSuffix(token.Expires.UTC().Format(wireTime), "Z")
	}
	answer(w, status, object{"token": body})
}

func named(roles []string) []object {
	all := []object{}
	for _, role := range roles {
		all = append(all, object{"id": "role-" + role, "name": role})
	}
	return all
}

func (s *Server) inspect(w http.ResponseWriter, r *http.Request) {
	asker, known := s.tokens[r.Header.Get("X-Auth-Token")]
	if !known || !s.usable(asker) {
		refuse(w, http.StatusUnauthorized, wrong)
		return
	}
	token, known := s.tokens[r.Header.Get("X-Subject-Token")]
	if !known || !s.usable(token) {
		refuse(w, http.StatusNotFound, "Could not find token")
		return
	}
	s.describe(w, http.StatusOK, token)
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	asker, known := s.tokens[r.Header.Get("X-Auth-Token")]
	if !known || !s.usable(asker) {
		refuse(w, http.StatusUnauthorized, wrong)
		return
	}
	delete(s.tokens, r.Header.Get("X-Subject-Token"))
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) asUser(handle func(w http.ResponseWriter, r *http.Request, token Token)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, known := s.tokens[r.Header.Get("X-Auth-Token")]
		if !known || !s.usable(token) {
			refuse(w, http.StatusUnauthorized, wrong)
			return
		}
		handle(w, r, token)
	}
}

func (s *Server) listProjects(w http.ResponseWriter, _ *http.Request, token Token) {
	found := []object{}
	for _, project := range s.all() {
		if len(s.users[token.UserID].Roles[project.Name]) > 0 {
			found = append(found, object{"id": project.ID, "name": project.Name, "domain_id": "default", "enabled": !project.Disabled})
		}
	}
	answer(w, http.StatusOK, object{"projects": found})
}

func (s *Server) bearer(w http.ResponseWriter, r *http.Request) (Token, bool) {
	value, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	token, known := s.tokens[value]
	if !known || !s.usable(token) || token.ProjectID == "" {
		refuse(w, http.StatusUnauthorized, "Unauthorized")
		return Token{}, false
	}
	return token, true
}

func (s *Server) whoami(w http.ResponseWriter, r *http.Request) {
	token, known := s.bearer(w, r)
	if !known {
		return
	}
	project := s.project(token.ProjectID)
	if s.silent || project.Namespace == "" {
		refuse(w, http.StatusNotFound, "the server could not find the requested resource")
		return
	}
	answer(w, http.StatusOK, object{
		"user": s.users[token.UserID].Name, "uid": token.UserID, "project": object{"id": project.ID, "name": project.Name}, "namespace": project.Namespace,
	})
}

func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	token, known := s.bearer(w, r)
	if !known {
		return
	}
	answer(w, http.StatusCreated, object{"kind": "SelfSubjectReview", "status": object{"userInfo": object{
		"username": s.users[token.UserID].Name, "uid": token.UserID, "extra": object{
			"osn.infn.it/projectid": []string{token.ProjectID}, "osn.infn.it/projectname": []string{s.project(token.ProjectID).Name},
		},
	}}})
}

func parseTime(text string) time.Time {
	at, err := time.Parse("2006-01-02T15:04:05.999999", strings.TrimSuffix(text, "Z"))
	if err != nil {
		return time.Time{}
	}
	return at
}
