// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"maps"
	"net/http"
	"slices"
)

// directoryRoutes are Keystone's for administrators.
func (f *Fake) directoryRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /identity/v3/projects", f.administration(f.createProject))
	mux.HandleFunc("GET /identity/v3/projects", f.administration(f.listProjects))
	mux.HandleFunc("DELETE /identity/v3/projects/{id}", f.administration(f.deleteProject))
	mux.HandleFunc("POST /identity/v3/users", f.administration(f.createUser))
	mux.HandleFunc("GET /identity/v3/users", f.administration(f.listUsers))
	mux.HandleFunc("PATCH /identity/v3/users/{id}", f.administration(f.updateUser))
	mux.HandleFunc("DELETE /identity/v3/users/{id}", f.administration(f.deleteUser))
	mux.HandleFunc("GET /identity/v3/roles", f.administration(f.listRoles))
	mux.HandleFunc("PUT /identity/v3/projects/{project}/users/{user}/roles/{role}", f.administration(f.grant))
	mux.HandleFunc("DELETE /identity/v3/projects/{project}/users/{user}/roles/{role}", f.administration(f.ungrant))
}

func (f *Fake) administration(do func(w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
	return f.identity(func(w http.ResponseWriter, r *http.Request, by *token) {
		if !by.admin() {
			forbidden(w, "identity:administration")
			return
		}
		do(w, r)
	})
}

func (f *Fake) createProject(w http.ResponseWriter, r *http.Request) {
	var request struct{ Name string }
	if !read(r, "project", &request) || request.Name == "" {
		keystoneError(w, http.StatusBadRequest, "Expecting to find project in request body.")
		return
	}
	if f.projectNamed(request.Name) != nil {
		keystoneError(w, http.StatusConflict, "Conflict occurred attempting to store project.")
		return
	}
	reply(w, http.StatusCreated, object{"project": describeProject(f.newProject(request.Name))})
}

func (f *Fake) newProject(name string) *project {
	made := &project{
		id: newID(), name: name, grants: map[string][]string{}, servers: map[string]*instance{},
		byName: map[string]map[string]*instance{}, quota: Quota{Cores: -1, Instances: -1, MemoryMiB: -1},
	}
	f.projects[made.id] = made
	f.newGroup(made.id, "default", "Default security group")
	return made
}

func (f *Fake) listProjects(w http.ResponseWriter, r *http.Request) {
	found := []object{}
	for _, one := range f.projects {
		if name := r.URL.Query().Get("name"); name == "" || name == one.name {
			found = append(found, describeProject(one))
		}
	}
	reply(w, http.StatusOK, object{"projects": found, "links": object{"next": nil}})
}

func (f *Fake) deleteProject(w http.ResponseWriter, r *http.Request) {
	if f.projects[r.PathValue("id")] == nil {
		keystoneError(w, http.StatusNotFound, "Could not find project.")
		return
	}
	delete(f.projects, r.PathValue("id"))
	reply(w, http.StatusNoContent, nil)
}

func describeUser(one *user) object {
	return object{"id": one.id, "name": one.name, "enabled": !one.disabled, "domain_id": "default"}
}

func (f *Fake) createUser(w http.ResponseWriter, r *http.Request) {
	var request struct{ Name, Password string }
	if !read(r, "user", &request) || request.Name == "" {
		keystoneError(w, http.StatusBadRequest, "Expecting to find user in request body.")
		return
	}
	if f.userNamed(request.Name) != nil {
		keystoneError(w, http.StatusConflict, "Conflict occurred attempting to store user.")
		return
	}
	made := &user{id: newID(), name: request.Name, password: request.Password}
	f.users[made.id] = made
	reply(w, http.StatusCreated, object{"user": describeUser(made)})
}

func (f *Fake) listUsers(w http.ResponseWriter, r *http.Request) {
	found := []object{}
	for _, one := range f.users {
		if name := r.URL.Query().Get("name"); name == "" || name == one.name {
			found = append(found, describeUser(one))
		}
	}
	reply(w, http.StatusOK, object{"users": found, "links": object{"next": nil}})
}

func (f *Fake) updateUser(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Enabled  *bool   `json:"enabled"`
		Password *string `json:"password"`
	}
	one := f.users[r.PathValue("id")]
	if one == nil || !read(r, "user", &request) {
		keystoneError(w, http.StatusNotFound, "Could not find user.")
		return
	}
	if request.Enabled != nil {
		one.disabled = !*request.Enabled
	}
	if request.Password != nil {
		one.password = *request.Password
	}
	reply(w, http.StatusOK, object{"user": describeUser(one)})
}

func (f *Fake) deleteUser(w http.ResponseWriter, r *http.Request) {
	if f.users[r.PathValue("id")] == nil {
		keystoneError(w, http.StatusNotFound, "Could not find user.")
		return
	}
	delete(f.users, r.PathValue("id"))
	reply(w, http.StatusNoContent, nil)
}

func (f *Fake) listRoles(w http.ResponseWriter, r *http.Request) {
	found := []object{}
	for name, id := range f.roles {
		if asked := r.URL.Query().Get("name"); asked == "" || asked == name {
			found = append(found, object{"id": id, "name": name})
		}
	}
	reply(w, http.StatusOK, object{"roles": found, "links": object{"next": nil}})
}

// assignment is what a request about a role in a project is about; the name is empty
// if it is about nothing.
func (f *Fake) assignment(r *http.Request) (in *project, who, role string) {
	in = f.projects[r.PathValue("project")]
	for name, id := range f.roles {
		if id == r.PathValue("role") && in != nil && f.users[r.PathValue("user")] != nil {
			return in, r.PathValue("user"), name
		}
	}
	return nil, "", ""
}

func (f *Fake) grant(w http.ResponseWriter, r *http.Request) {
	in, who, role := f.assignment(r)
	if in == nil {
		keystoneError(w, http.StatusNotFound, "Could not find role, user or project.")
		return
	}
	in.give(who, role)
	reply(w, http.StatusNoContent, nil)
}

// give grants a role and what it implies.
func (p *project) give(who, role string) {
	implied := map[string][]string{"admin": {"admin", "manager", "member", "reader"}, "manager": {"manager", "member", "reader"}, "member": {"member", "reader"}}
	wanted, ok := implied[role]
	if !ok {
		wanted = []string{role}
	}
	for _, name := range wanted {
		if !slices.Contains(p.grants[who], name) {
			p.grants[who] = append(p.grants[who], name)
		}
	}
}

func (f *Fake) ungrant(w http.ResponseWriter, r *http.Request) {
	in, who, _ := f.assignment(r)
	if in == nil {
		keystoneError(w, http.StatusNotFound, "Could not find role, user or project.")
		return
	}
	f.expel(who, in)
	reply(w, http.StatusNoContent, nil)
}

// expel takes a user's roles, with what they implied and his application credentials.
func (f *Fake) expel(who string, from *project) {
	delete(from.grants, who)
	maps.DeleteFunc(f.secrets, func(_ string, one *applicationCredential) bool { return one.user == who && one.project == from.id })
}
