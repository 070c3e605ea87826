// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"net/http"
	"slices"
	"time"
)

type trust struct {
	id, trustor, trustee, project string
	impersonation                 bool
	roles                         []string
	expires                       time.Time
}

func (f *Fake) trustRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /identity/v3/OS-TRUST/trusts", f.identity(f.createTrust))
	mux.HandleFunc("GET /identity/v3/OS-TRUST/trusts", f.identity(f.listTrusts))
	mux.HandleFunc("GET /identity/v3/OS-TRUST/trusts/{id}", f.identity(f.showTrust))
	mux.HandleFunc("DELETE /identity/v3/OS-TRUST/trusts/{id}", f.identity(f.deleteTrust))
}

// byTrust makes a login one by a trust. The order of the refusals is Keystone's.
func (f *Fake) byTrust(made *token, id string) (*token, int, string) {
	given := f.trusts[id]
	if given == nil || f.expired(given) {
		return nil, http.StatusUnauthorized, unauthorized // not 404: nobody learns which trusts there were
	}
	if given.trustee != made.user {
		return nil, http.StatusForbidden, "User is not a trustee."
	}
	trustor, in := f.users[given.trustor], f.projects[given.project]
	if trustor == nil || trustor.disabled {
		return nil, http.StatusForbidden, "Trustor is disabled."
	}
	if in == nil || !containsAll(in.grants[given.trustor], given.roles) {
		return nil, http.StatusForbidden, "You are not authorized to perform the requested action."
	}
	made.trust, made.project, made.roles = id, given.project, given.roles
	if given.impersonation {
		made.user = given.trustor
	}
	return made, 0, ""
}

func (f *Fake) expired(given *trust) bool {
	return !given.expires.IsZero() && !given.expires.After(f.options.Now())
}

func (f *Fake) createTrust(w http.ResponseWriter, r *http.Request, by *token) {
	var request struct {
		Impersonation bool       `json:"impersonation"`
		Trustor       string     `json:"trustor_user_id"`
		Trustee       string     `json:"trustee_user_id"`
		Project       string     `json:"project_id"`
		Expires       *time.Time `json:"expires_at"`
		Roles         []struct{ ID, Name string }
	}
	if !read(r, "trust", &request) {
		keystoneError(w, http.StatusBadRequest, "Expecting to find trust in request body.")
		return
	}
	switch {
	case by.secret != "" || by.trust != "":
		forbidden(w, "identity:create_trust")
		return
	case by.user != request.Trustor:
		keystoneError(w, http.StatusForbidden, "You are not authorized to perform the requested action: "+
			"The authenticated user should match the trustor.")
		return
	case len(request.Roles) == 0:
		keystoneError(w, http.StatusForbidden, "At least one role should be specified.")
		return
	case f.users[request.Trustee] == nil:
		keystoneError(w, http.StatusNotFound, "Could not find user: "+request.Trustee+".")
		return
	}
	made := &trust{
		id: newID(), trustor: request.Trustor, trustee: request.Trustee, project: request.Project,
		impersonation: request.Impersonation,
	}
	for _, role := range request.Roles {
		name := role.Name
		for known, id := range f.roles {
			if id == role.ID {
				name = known
			}
		}
		in := f.projects[request.Project]
		if in == nil || !slices.Contains(in.grants[by.user], name) {
			keystoneError(w, http.StatusNotFound, "Could not find role: "+role.ID+role.Name+".")
			return
		}
		made.roles = append(made.roles, name)
	}
	if request.Expires != nil {
		made.expires = *request.Expires
	}
	f.trusts[made.id] = made
	reply(w, http.StatusCreated, object{"trust": f.describeTrust(made, true)})
}

func (f *Fake) describeTrust(one *trust, roles bool) object {
	body := object{
		"id": one.id, "trustor_user_id": one.trustor, "trustee_user_id": one.trustee, "project_id": one.project,
		"impersonation": one.impersonation, "expires_at": nil, "deleted_at": nil, "remaining_uses": nil,
		"redelegation_count": 0,
	}
	if !one.expires.IsZero() {
		body["expires_at"] = one.expires.UTC().Format("2006-01-02T15:04:05.000000Z")
	}
	if roles { // Keystone leaves them out of lists
		named := []object{}
		for _, role := range one.roles {
			named = append(named, object{"id": f.roles[role], "name": role})
		}
		body["roles"] = named
	}
	return body
}

func (f *Fake) listTrusts(w http.ResponseWriter, r *http.Request, by *token) {
	trustor, trustee := r.URL.Query().Get("trustor_user_id"), r.URL.Query().Get("trustee_user_id")
	if !by.admin() && (trustor == "" && trustee == "" || trustor != "" && trustor != by.user || trustee != "" && trustee != by.user) {
		forbidden(w, "identity:list_trusts")
		return
	}
	found := []object{}
	for _, one := range f.trusts {
		if f.expired(one) || trustor != "" && one.trustor != trustor || trustee != "" && one.trustee != trustee {
			continue
		}
		found = append(found, f.describeTrust(one, false))
	}
	reply(w, http.StatusOK, object{"trusts": found, "links": object{"next": nil, "previous": nil}})
}

func (f *Fake) showTrust(w http.ResponseWriter, r *http.Request, by *token) {
	one := f.trusts[r.PathValue("id")]
	switch {
	case one == nil:
		keystoneError(w, http.StatusNotFound, "Could not find trust: "+r.PathValue("id")+".")
	case by.user != one.trustor && by.user != one.trustee && !by.admin():
		forbidden(w, "identity:get_trust")
	default:
		reply(w, http.StatusOK, object{"trust": f.describeTrust(one, true)})
	}
}

func (f *Fake) deleteTrust(w http.ResponseWriter, r *http.Request, by *token) {
	one := f.trusts[r.PathValue("id")]
	switch {
	case one == nil:
		keystoneError(w, http.StatusNotFound, "Could not find trust: "+r.PathValue("id")+".")
	case by.user != one.trustor && !by.admin():
		forbidden(w, "identity:delete_trust")
	default:
		delete(f.trusts, one.id)
		reply(w, http.StatusNoContent, nil)
	}
}

func (f *Fake) createSecret(w http.ResponseWriter, r *http.Request, by *token) {
	var request struct{ Name, Secret string }
	if !read(r, "application_credential", &request) {
		keystoneError(w, http.StatusBadRequest, "Expecting to find application_credential in request body.")
		return
	}
	if by.secret != "" || by.trust != "" || by.user != r.PathValue("user") || by.project == "" {
		forbidden(w, "identity:create_application_credential")
		return
	}
	if request.Secret == "" {
		request.Secret = newID()
	}
	made := &applicationCredential{
		id: newID(), name: request.Name, secret: request.Secret, user: by.user, project: by.project, roles: by.roles,
	}
	f.secrets[made.id] = made
	reply(w, http.StatusCreated, object{"application_credential": object{
		"id": made.id, "name": made.name, "secret": made.secret, "project_id": made.project, "unrestricted": false,
	}})
}

func (f *Fake) deleteSecret(w http.ResponseWriter, r *http.Request, by *token) {
	one := f.secrets[r.PathValue("id")]
	switch {
	case one == nil:
		keystoneError(w, http.StatusNotFound, "Could not find application credential.")
	case by.secret != "" || by.user != one.user && !by.admin():
		forbidden(w, "identity:delete_application_credential")
	default:
		delete(f.secrets, one.id)
		reply(w, http.StatusNoContent, nil)
	}
}
