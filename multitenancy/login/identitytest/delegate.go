// SPDX-License-Identifier: Apache-2.0

package identitytest

import (
	"encoding/json"
	"net/http"
	"slices"
)

// strong refuses what application credentials may not do.
func strong(w http.ResponseWriter, token Token) bool {
	if token.Credential != "" {
		refuse(w, http.StatusForbidden, "Using method 'application_credential' is not allowed for managing trusts and application credentials.")
		return false
	}
	return true
}

type roleList []struct{ Name string }

func (l roleList) names() []string {
	var all []string
	for _, one := range l {
		all = append(all, one.Name)
	}
	return all
}

// held tells that a token has all the roles.
func held(token Token, roles []string) bool {
	return len(roles) > 0 && !slices.ContainsFunc(roles, func(role string) bool { return !slices.Contains(token.Roles, role) })
}

func (s *Server) createCredential(w http.ResponseWriter, r *http.Request, token Token) {
	var asked struct {
		Wanted struct {
			Name         string
			Roles        roleList
			ExpiresAt    string `json:"expires_at"`
			Unrestricted bool
		} `json:"application_credential"`
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil || r.PathValue("user") != token.UserID || !strong(w, token) {
		return
	}
	one := Credential{
		ID: newID(), Secret: fernet(), Name: asked.Wanted.Name, UserID: token.UserID, ProjectID: token.ProjectID,
		Roles: asked.Wanted.Roles.names(), Expires: parseTime(asked.Wanted.ExpiresAt), Unrestricted: asked.Wanted.Unrestricted,
	}
	for _, other := range s.creds {
		if other.UserID == one.UserID && other.Name == one.Name {
			refuse(w, http.StatusConflict, "Duplicate entry found with name "+one.Name)
			return
		}
	}
	if !held(token, one.Roles) {
		refuse(w, http.StatusBadRequest, "Invalid application credential: Could not find role assignment")
		return
	}
	s.creds[one.ID] = one
	answer(w, http.StatusCreated, object{"application_credential": object{"id": one.ID, "name": one.Name, "secret": one.Secret}})
}

func (s *Server) deleteCredential(w http.ResponseWriter, r *http.Request, token Token) {
	if !strong(w, token) {
		return
	}
	one, there := s.creds[r.PathValue("id")]
	if !there || one.UserID != token.UserID {
		refuse(w, http.StatusNotFound, "Could not find Application Credential")
		return
	}
	delete(s.creds, one.ID)
	w.WriteHeader(http.StatusNoContent)
}

func (t Trust) wire(withRoles bool) object {
	body := object{
		"id": t.ID, "trustor_user_id": t.TrustorID, "trustee_user_id": t.TrusteeID, "project_id": t.ProjectID,
		"impersonation": t.Impersonation, "deleted_at": nil, "expires_at": nil,
	}
	if !t.Expires.IsZero() {
		body["expires_at"] = t.Expires.UTC().Format(wireTime)
	}
	if withRoles {
		body["roles"] = named(t.Roles)
	}
	return body
}

func (s *Server) listTrusts(w http.ResponseWriter, r *http.Request, token Token) {
	if r.URL.Query().Get("trustor_user_id") != token.UserID {
		refuse(w, http.StatusForbidden, "You are not authorized to perform the requested action: identity:list_trusts.")
		return
	}
	found := []object{}
	for _, one := range s.trusts {
		if one.TrustorID == token.UserID {
			found = append(found, one.wire(false))
		}
	}
	answer(w, http.StatusOK, object{"trusts": found})
}

func (s *Server) createTrust(w http.ResponseWriter, r *http.Request, token Token) {
	var asked struct {
		Trust struct {
			Trustor       string `json:"trustor_user_id"`
			Trustee       string `json:"trustee_user_id"`
			Project       string `json:"project_id"`
			Impersonation bool
			Redelegation  bool `json:"allow_redelegation"`
			Roles         roleList
			ExpiresAt     string `json:"expires_at"`
		}
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil || !strong(w, token) {
		return
	}
	one := Trust{
		ID: newID(), TrustorID: asked.Trust.Trustor, TrusteeID: asked.Trust.Trustee, ProjectID: asked.Trust.Project, Roles: asked.Trust.Roles.names(),
		Impersonation: asked.Trust.Impersonation, Redelegation: asked.Trust.Redelegation, Expires: parseTime(asked.Trust.ExpiresAt),
	}
	if one.TrustorID != token.UserID || one.ProjectID != token.ProjectID {
		refuse(w, http.StatusForbidden, "The authenticated user should match the trustor")
		return
	}
	if !held(token, one.Roles) {
		refuse(w, http.StatusForbidden, "Some of requested roles are not in scope of the current token")
		return
	}
	s.trusts[one.ID] = one
	answer(w, http.StatusCreated, object{"trust": one.wire(true)})
}

func (s *Server) readTrust(w http.ResponseWriter, r *http.Request, token Token) {
	one, there := s.trusts[r.PathValue("id")]
	if !there || one.TrustorID != token.UserID {
		refuse(w, http.StatusNotFound, "Could not find trust")
		return
	}
	answer(w, http.StatusOK, object{"trust": one.wire(true)})
}

func (s *Server) deleteTrust(w http.ResponseWriter, r *http.Request, token Token) {
	one, there := s.trusts[r.PathValue("id")]
	if !there || one.TrustorID != token.UserID {
		refuse(w, http.StatusNotFound, "Could not find trust")
		return
	}
	if !strong(w, token) {
		return
	}
	delete(s.trusts, one.ID)
	w.WriteHeader(http.StatusNoContent)
}
