// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Microversions of the fake's Nova.
const (
	maxMinor      = 93
	minorTags     = 52
	minorFlavor   = 47
	keepsDeleted  = 1000
	forbiddenText = "Policy doesn't allow this to be performed."
)

// Fault is why a server is ERROR.
type Fault struct {
	Code    int
	Message string
}

type instance struct {
	id, name, project, user, key, image, zone string
	flavor                                    *flavor
	metadata                                  map[string]string
	tags                                      []string
	userData                                  string
	status                                    string
	fault                                     *Fault
	ports                                     []*port
	volumes                                   []*volume
	created, updated, due, gone               time.Time
	leaving, leaks                            bool
}

// computeRoutes are Nova's.
func (f *Fake) computeRoutes(mux *http.ServeMux) {
	const base = "/compute/v2.1/"
	mux.HandleFunc("POST "+base+"servers", f.compute(f.createServer))
	mux.HandleFunc("GET "+base+"servers/detail", f.compute(f.listServers))
	mux.HandleFunc("GET "+base+"servers/{id}", f.compute(f.showServer))
	mux.HandleFunc("DELETE "+base+"servers/{id}", f.compute(f.deleteServer))
	mux.HandleFunc("POST "+base+"servers/{id}/action", f.compute(f.actOnServer))
	mux.HandleFunc("GET "+base+"flavors/detail", f.compute(f.listFlavors))
	mux.HandleFunc("GET "+base+"flavors/{id}", f.compute(f.showFlavor))
	mux.HandleFunc("POST "+base+"flavors", f.compute(f.createFlavor))
	mux.HandleFunc("DELETE "+base+"flavors/{id}", f.compute(f.deleteFlavor))
	mux.HandleFunc("POST "+base+"flavors/{id}/os-extra_specs", f.compute(f.specifyFlavor))
	mux.HandleFunc("GET "+base+"limits", f.compute(f.limits))
	mux.HandleFunc("PUT "+base+"os-quota-sets/{project}", f.compute(f.updateQuota))
	mux.HandleFunc("GET "+base+"os-keypairs", f.compute(f.listKeyPairs))
	mux.HandleFunc("GET "+base+"os-keypairs/{name}", f.compute(f.showKeyPair))
	mux.HandleFunc("POST "+base+"os-keypairs", f.compute(f.createKeyPair))
	mux.HandleFunc("DELETE "+base+"os-keypairs/{name}", f.compute(f.deleteKeyPair))
}

// call is a request to Nova, Neutron, Glance or Cinder: by whom, where, and in Nova's
// case in which minor version.
type call struct {
	by    *token
	in    *project
	minor int
}

// scoped is a handler that needs a token with a project, and holds the fake's lock.
func (f *Fake) scoped(do func(w http.ResponseWriter, r *http.Request, c call)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		by := f.valid(r.Header.Get("X-Auth-Token"))
		if by == nil || by.project == "" {
			w.Header().Set("WWW-Authenticate", "Keystone uri=\""+f.AuthURL()+"\"")
			http.Error(w, `{"error": {"code": 401, "title": "Unauthorized", "message": "`+unauthorized+`"}}`, http.StatusUnauthorized)
			return
		}
		do(w, r, call{by: by, in: f.projects[by.project]})
	}
}

func (f *Fake) compute(do func(w http.ResponseWriter, r *http.Request, c call)) http.HandlerFunc {
	return f.scoped(func(w http.ResponseWriter, r *http.Request, c call) {
		version := strings.TrimPrefix(cmp.Or(r.Header.Get("OpenStack-API-Version"), "compute 2.1"), "compute ")
		major, minor, _ := strings.Cut(version, ".")
		n, err := strconv.Atoi(minor)
		if err != nil || major != "2" || n > maxMinor {
			novaError(w, http.StatusNotAcceptable, "Version "+version+" is not supported by the API.")
			return
		}
		c.minor = n
		w.Header().Set("OpenStack-API-Version", "compute "+version)
		do(w, r, c)
	})
}

// find is a server that the caller can see.
func (f *Fake) find(w http.ResponseWriter, r *http.Request, c call) *instance {
	found := f.servers[r.PathValue("id")]
	if found == nil || found.project != c.in.id && !c.by.admin() {
		novaError(w, http.StatusNotFound, "Instance "+r.PathValue("id")+" could not be found.")
		return nil
	}
	return found
}

func (f *Fake) showServer(w http.ResponseWriter, r *http.Request, c call) {
	if found := f.find(w, r, c); found != nil {
		reply(w, http.StatusOK, object{"server": f.describeServer(found, c)})
	}
}

func (f *Fake) describeServer(s *instance, c call) object {
	body := object{
		"id": s.id, "name": s.name, "status": s.status, "tenant_id": s.project, "user_id": s.user,
		"metadata": s.metadata, "tags": emptied(s.tags), "created": stamp(s.created), "updated": stamp(s.updated),
		"key_name": nil, "OS-EXT-AZ:availability_zone": s.zone, "OS-EXT-STS:task_state": nil,
		"OS-EXT-STS:vm_state": strings.ToLower(s.status), "addresses": f.addresses(s), "config_drive": "",
		"os-extended-volumes:volumes_attached": attached(s),
	}
	if s.key != "" {
		body["key_name"] = s.key
	}
	switch {
	case s.leaving && s.status != "DELETED":
		body["OS-EXT-STS:task_state"] = "deleting"
	case s.status == "BUILD":
		body["OS-EXT-STS:task_state"] = "spawning"
	}
	if c.minor >= minorFlavor {
		body["flavor"] = object{
			"original_name": s.flavor.name, "vcpus": s.flavor.vcpus, "ram": s.flavor.ram, "disk": s.flavor.disk,
			"ephemeral": s.flavor.ephemeral, "swap": 0, "extra_specs": s.flavor.specs,
		}
	} else {
		body["flavor"] = object{"id": s.flavor.id}
	}
	if s.image != "" {
		body["image"] = object{"id": s.image}
	} else {
		body["image"] = ""
	}
	if s.fault != nil {
		body["fault"] = object{"code": s.fault.Code, "message": s.fault.Message, "created": stamp(s.updated)}
	}
	if c.by.admin() && c.minor >= 3 {
		body["OS-EXT-SRV-ATTR:user_data"] = s.userData
	}
	return body
}

func emptied(tags []string) []string {
	if tags == nil {
		return []string{}
	}
	return tags
}

func (f *Fake) addresses(s *instance) object {
	all := map[string][]object{}
	if s.status == "BUILD" || s.status == "DELETED" {
		return object{}
	}
	for _, port := range s.ports {
		name := f.networks[port.network].name
		all[name] = append(all[name], object{
			"addr": port.ip.String(), "version": 4, "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": port.mac,
		})
	}
	body := object{}
	for name, list := range all {
		body[name] = list
	}
	return body
}

func attached(s *instance) []object {
	list := []object{}
	for _, one := range s.volumes {
		list = append(list, object{"id": one.id, "delete_on_termination": one.ephemeral})
	}
	return list
}

func (f *Fake) listServers(w http.ResponseWriter, r *http.Request, c call) {
	query := r.URL.Query()
	matched, ok := c.in.named(query.Get("name"))
	if !ok {
		novaError(w, http.StatusBadRequest, "Invalid input for field/attribute name.")
		return
	}
	if since := query.Get("changes-since"); since != "" {
		at, err := time.Parse(time.RFC3339, since)
		if err != nil {
			novaError(w, http.StatusBadRequest, "Invalid input for field/attribute changes-since.")
			return
		}
		matched = append(matched, c.in.deleted...)
		matched = slices.DeleteFunc(matched, func(s *instance) bool { return s.updated.Before(at.Truncate(time.Second)) })
	}
	if status := query.Get("status"); status != "" {
		matched = slices.DeleteFunc(matched, func(s *instance) bool { return s.status != status })
	}
	slices.SortFunc(matched, func(a, b *instance) int {
		return cmp.Or(b.created.Compare(a.created), strings.Compare(a.id, b.id))
	})
	part, next := page(r, matched, func(s *instance) string { return s.id })
	found := make([]object, 0, len(part))
	for _, one := range part {
		found = append(found, f.describeServer(one, c))
	}
	body := object{"servers": found}
	if next != "" {
		query.Set("marker", next)
		body["servers_links"] = []object{{"rel": "next", "href": f.server.URL + r.URL.Path + "?" + query.Encode()}}
	}
	reply(w, http.StatusOK, body)
}

// named are the servers whose names match a regular expression. One that is a quoted
// name is looked up.
func (p *project) named(pattern string) ([]*instance, bool) {
	if pattern == "" {
		return slices.Collect(maps.Values(p.servers)), true
	}
	if inner, begins := strings.CutPrefix(pattern, "^"); begins && strings.HasSuffix(inner, "$") {
		literal, err := regexp.Compile(strings.TrimSuffix(inner, "$"))
		if err != nil {
			return nil, false
		}
		if name, whole := literal.LiteralPrefix(); whole {
			return slices.Collect(maps.Values(p.byName[name])), true
		}
	}
	expression, err := regexp.Compile(pattern)
	if err != nil {
		return nil, false
	}
	var found []*instance
	for _, one := range p.servers {
		if expression.MatchString(one.name) {
			found = append(found, one)
		}
	}
	return found, true
}

func (f *Fake) deleteServer(w http.ResponseWriter, r *http.Request, c call) {
	found := f.find(w, r, c)
	if found == nil {
		return
	}
	f.leave(found)
	reply(w, http.StatusNoContent, nil)
}

// leave begins a deletion; the lock is held.
func (f *Fake) leave(s *instance) {
	if s.leaving {
		return
	}
	at := f.options.Now()
	s.leaving, s.updated, s.gone = true, at, at.Add(f.options.Deletion)
	if f.options.Deletion == 0 {
		f.remove(s)
		return
	}
	f.leaving = append(f.leaving, s)
}

// remove ends a deletion; the lock is held.
func (f *Fake) remove(s *instance) {
	if f.servers[s.id] == nil {
		return
	}
	in := f.projects[s.project]
	delete(f.servers, s.id)
	s.updated = f.options.Now()
	view := f.view(s)
	s.status = "DELETED"
	for _, one := range s.ports {
		if !s.leaks {
			f.releasePort(one)
		}
	}
	for _, one := range s.volumes {
		one.server = ""
		if one.ephemeral && !s.leaks {
			delete(f.volumes, one.id)
		}
	}
	if in != nil {
		in.forget(s)
	}
	if hook := f.options.Deleted; hook != nil {
		f.events = append(f.events, func() { hook(view) })
	}
}

func (p *project) forget(s *instance) {
	delete(p.servers, s.id)
	delete(p.byName[s.name], s.id)
	if len(p.byName[s.name]) == 0 {
		delete(p.byName, s.name)
	}
	p.deleted = append(p.deleted, s)
	if len(p.deleted) > keepsDeleted {
		p.deleted = p.deleted[len(p.deleted)-keepsDeleted:]
	}
	p.used.Instances--
	p.used.Cores -= s.flavor.vcpus
	p.used.MemoryMiB -= s.flavor.ram
}

func (f *Fake) actOnServer(w http.ResponseWriter, r *http.Request, c call) {
	found := f.find(w, r, c)
	if found == nil {
		return
	}
	var request map[string]json.RawMessage
	if json.NewDecoder(r.Body).Decode(&request) != nil || len(request) != 1 {
		novaError(w, http.StatusBadRequest, "Malformed request body")
		return
	}
	wanted := map[string][2]string{"os-stop": {"ACTIVE", "SHUTOFF"}, "os-start": {"SHUTOFF", "ACTIVE"}, "reboot": {"ACTIVE", "ACTIVE"}}
	for name := range request {
		change, ok := wanted[name]
		switch {
		case !ok:
			novaError(w, http.StatusBadRequest, "There is no such action: "+name)
		case found.status != change[0]:
			novaError(w, http.StatusConflict, "Cannot '"+name+"' instance "+found.id+" while it is in vm_state "+strings.ToLower(found.status))
		default:
			found.status, found.updated = change[1], f.options.Now()
			reply(w, http.StatusAccepted, nil)
		}
	}
}
