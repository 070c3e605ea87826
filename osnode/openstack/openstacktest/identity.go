// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"net/http"
	"slices"
	"time"
)

type user struct {
	id, name, password string
	disabled           bool
}

type project struct {
	id, name string
	// grants are the names of roles, by user.
	grants map[string][]string

	servers map[string]*instance
	byName  map[string]map[string]*instance
	deleted []*instance
	quota   Quota
	used    Quota
}

type token struct {
	id      string
	user    string // whom services see
	actor   string // who logged in
	project string
	roles   []string
	methods []string
	issued  time.Time
	expires time.Time
	trust   string
	secret  string // the application credential
	revoked bool
}

type applicationCredential struct {
	id, name, secret, user, project string
	roles                           []string
}

func (f *Fake) identityRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /identity/v3", f.version)
	mux.HandleFunc("GET /identity/v3/{$}", f.version)
	mux.HandleFunc("POST /identity/v3/auth/tokens", f.login)
	mux.HandleFunc("GET /identity/v3/auth/tokens", f.validate)
	mux.HandleFunc("DELETE /identity/v3/auth/tokens", f.revoke)
	mux.HandleFunc("GET /identity/v3/auth/projects", f.identity(f.ownProjects))
	mux.HandleFunc("POST /identity/v3/users/{user}/application_credentials", f.identity(f.createSecret))
	mux.HandleFunc("DELETE /identity/v3/users/{user}/application_credentials/{id}", f.identity(f.deleteSecret))
}

func (f *Fake) version(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, object{"version": object{
		"id": "v3.14", "status": "stable", "links": []object{{"rel": "self", "href": f.AuthURL() + "/"}},
	}})
}

// identity is a handler of Keystone that needs a token, and holds the fake's lock.
func (f *Fake) identity(do func(w http.ResponseWriter, r *http.Request, by *token)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		by := f.valid(r.Header.Get("X-Auth-Token"))
		if by == nil {
			keystoneError(w, http.StatusUnauthorized, "The request you have made requires authentication.")
			return
		}
		do(w, r, by)
	}
}

// valid is the token, if it still is one: not expired, and everything that it rests
// upon is still there.
func (f *Fake) valid(id string) *token {
	t := f.tokens[id]
	if t == nil || t.revoked || f.options.Now().After(t.expires) {
		return nil
	}
	who := f.users[t.user]
	if who == nil || who.disabled || f.users[t.actor] == nil || f.users[t.actor].disabled {
		return nil
	}
	if t.trust != "" && f.trusts[t.trust] == nil || t.secret != "" && f.secrets[t.secret] == nil {
		return nil
	}
	if t.project == "" {
		return t
	}
	in := f.projects[t.project]
	if in == nil || !containsAll(in.grants[t.user], t.roles) {
		return nil
	}
	return t
}

func containsAll(has, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(role string) bool { return !slices.Contains(has, role) })
}

func (t *token) admin() bool { return slices.Contains(t.roles, "admin") }

type loginRequest struct {
	Identity struct {
		Methods  []string `json:"methods"`
		Password struct {
			User struct {
				ID, Name, Password string
				Domain             struct{ ID, Name string }
			} `json:"user"`
		} `json:"password"`
		Secret struct{ ID, Secret string } `json:"application_credential"`
		Token  struct{ ID string }         `json:"token"`
	} `json:"identity"`
	Scope struct {
		Project *struct {
			ID, Name string
			Domain   struct{ ID, Name string }
		} `json:"project"`
		Trust *struct{ ID string } `json:"OS-TRUST:trust"`
	} `json:"scope"`
}

func (f *Fake) login(w http.ResponseWriter, r *http.Request) {
	var request loginRequest
	if !read(r, "auth", &request) || len(request.Identity.Methods) != 1 {
		keystoneError(w, http.StatusBadRequest, "Expecting to find auth in request body.")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	made, code, message := f.authenticate(request)
	if made == nil {
		keystoneError(w, code, message)
		return
	}
	f.tokens[made.id] = made
	w.Header().Set("X-Subject-Token", made.id)
	reply(w, http.StatusCreated, f.describe(made))
}

const unauthorized = "The request you have made requires authentication."

func (f *Fake) authenticate(request loginRequest) (*token, int, string) {
	at := f.options.Now()
	made := &token{id: newID() + newID(), methods: request.Identity.Methods, issued: at, expires: at.Add(f.options.TokenLife)}
	switch request.Identity.Methods[0] {
	case "password":
		who := f.byPassword(request)
		if who == nil {
			return nil, http.StatusUnauthorized, unauthorized
		}
		made.user, made.actor = who.id, who.id
	case "application_credential":
		secret := f.secrets[request.Identity.Secret.ID]
		if secret == nil || secret.secret != request.Identity.Secret.Secret || f.users[secret.user] == nil || f.users[secret.user].disabled {
			return nil, http.StatusUnauthorized, unauthorized
		}
		made.user, made.actor, made.secret = secret.user, secret.user, secret.id
		made.project, made.roles = secret.project, secret.roles
		return made, 0, ""
	case "token":
		by := f.valid(request.Identity.Token.ID)
		if by == nil {
			return nil, http.StatusUnauthorized, unauthorized
		}
		if by.trust != "" || by.secret != "" {
			return nil, http.StatusForbidden, "You are not authorized to perform the requested action: rescope."
		}
		made.user, made.actor, made.expires = by.user, by.actor, by.expires
	default:
		return nil, http.StatusUnauthorized, unauthorized
	}
	return f.scope(made, request)
}

// scope makes a token one for a trust, a project or nothing.
func (f *Fake) scope(made *token, request loginRequest) (*token, int, string) {
	if request.Scope.Trust != nil {
		return f.byTrust(made, request.Scope.Trust.ID)
	}
	if request.Scope.Project == nil {
		return made, 0, ""
	}
	in := f.projects[request.Scope.Project.ID]
	if in == nil {
		in = f.projectNamed(request.Scope.Project.Name)
	}
	if in == nil || len(in.grants[made.user]) == 0 {
		return nil, http.StatusUnauthorized, unauthorized
	}
	made.project, made.roles = in.id, slices.Clone(in.grants[made.user])
	return made, 0, ""
}

func (f *Fake) byPassword(request loginRequest) *user {
	asked := request.Identity.Password.User
	who := f.users[asked.ID]
	if who == nil && asked.Name != "" {
		who = f.userNamed(asked.Name)
	}
	if who == nil || who.disabled || who.password != asked.Password {
		return nil
	}
	return who
}

func (f *Fake) userNamed(name string) *user {
	for _, one := range f.users {
		if one.name == name {
			return one
		}
	}
	return nil
}

func (f *Fake) projectNamed(name string) *project {
	for _, one := range f.projects {
		if one.name == name && name != "" {
			return one
		}
	}
	return nil
}

func (f *Fake) domain() object { return object{"id": "default", "name": "Default"} }

// describe is a token's body.
func (f *Fake) describe(t *token) object {
	body := object{
		"methods": t.methods, "issued_at": stamp(t.issued), "expires_at": t.expires.UTC().Format("2006-01-02T15:04:05.000000Z"),
		"user": object{"id": t.user, "name": f.users[t.user].name, "domain": f.domain(), "password_expires_at": nil},
	}
	if t.project != "" {
		roles := make([]object, 0, len(t.roles))
		for _, role := range t.roles {
			roles = append(roles, object{"id": f.roles[role], "name": role})
		}
		body["project"] = object{"id": t.project, "name": f.projects[t.project].name, "domain": f.domain()}
		body["roles"] = roles
		body["catalog"] = f.catalog(t.project)
	}
	if t.trust != "" {
		body["OS-TRUST:trust"] = object{
			"id": t.trust, "impersonation": f.trusts[t.trust].impersonation,
			"trustor_user": object{"id": f.trusts[t.trust].trustor}, "trustee_user": object{"id": f.trusts[t.trust].trustee},
		}
	}
	if t.secret != "" {
		body["application_credential"] = object{"id": t.secret, "name": f.secrets[t.secret].name, "restricted": true}
	}
	return object{"token": body}
}

func (f *Fake) catalog(project string) []object {
	var entries []object
	for _, service := range []struct{ kind, name, path string }{
		{"identity", "keystone", "/identity/v3"},
		{"compute", "nova", "/compute/v2.1"},
		{"network", "neutron", "/network"},
		{"image", "glance", "/image"},
		{"volumev3", "cinder", "/volume/v3/" + project},
	} {
		entries = append(entries, object{
			"id": service.name, "type": service.kind, "name": service.name,
			"endpoints": []object{{
				"id": service.name, "interface": "public", "region": Region, "region_id": Region,
				"url": f.server.URL + service.path,
			}},
		})
	}
	return entries
}

func (f *Fake) validate(w http.ResponseWriter, r *http.Request) {
	f.identity(func(w http.ResponseWriter, r *http.Request, by *token) {
		subject := r.Header.Get("X-Subject-Token")
		if subject != by.id && !by.admin() {
			forbidden(w, "identity:validate_token")
			return
		}
		found := f.valid(subject)
		if found == nil {
			keystoneError(w, http.StatusNotFound, "Failed to validate token")
			return
		}
		w.Header().Set("X-Subject-Token", subject)
		reply(w, http.StatusOK, f.describe(found))
	})(w, r)
}

func (f *Fake) revoke(w http.ResponseWriter, r *http.Request) {
	f.identity(func(w http.ResponseWriter, r *http.Request, by *token) {
		found := f.valid(r.Header.Get("X-Subject-Token"))
		switch {
		case found == nil:
			keystoneError(w, http.StatusNotFound, "Could not find token.")
		case found.id != by.id && !by.admin() && found.actor != by.actor:
			forbidden(w, "identity:revoke_token")
		default:
			found.revoked = true
			reply(w, http.StatusNoContent, nil)
		}
	})(w, r)
}

func (f *Fake) ownProjects(w http.ResponseWriter, _ *http.Request, by *token) {
	found := []object{}
	for _, one := range f.projects {
		if len(one.grants[by.user]) > 0 {
			found = append(found, describeProject(one))
		}
	}
	reply(w, http.StatusOK, object{"projects": found, "links": object{"next": nil, "previous": nil}})
}

func describeProject(one *project) object {
	return object{"id": one.id, "name": one.name, "enabled": true, "domain_id": "default", "is_domain": false, "parent_id": "default"}
}
