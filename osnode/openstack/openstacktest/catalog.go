// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"encoding/json"
	"net/http"

	"github.com/google/uuid"
)

type flavor struct {
	id, name                    string
	vcpus, ram, disk, ephemeral int
	specs                       map[string]string
}

type keyPair struct{ name, public string }

// Quota is a project's limits, or its use of them. A limit below 0 is none.
type Quota struct{ Cores, Instances, MemoryMiB int }

func describeFlavor(one *flavor) object {
	return object{
		"id": one.id, "name": one.name, "vcpus": one.vcpus, "ram": one.ram, "disk": one.disk, "swap": "",
		"OS-FLV-EXT-DATA:ephemeral": one.ephemeral, "os-flavor-access:is_public": true, "rxtx_factor": 1.0,
		"OS-FLV-DISABLED:disabled": false, "description": nil, "extra_specs": one.specs, "links": []object{},
	}
}

func (f *Fake) listFlavors(w http.ResponseWriter, _ *http.Request, _ call) {
	found := make([]object, 0, len(f.flavors))
	for _, one := range f.flavors {
		found = append(found, describeFlavor(one))
	}
	reply(w, http.StatusOK, object{"flavors": found})
}

func (f *Fake) showFlavor(w http.ResponseWriter, r *http.Request, _ call) {
	one := f.flavors[r.PathValue("id")]
	if one == nil {
		novaError(w, http.StatusNotFound, "Flavor "+r.PathValue("id")+" could not be found.")
		return
	}
	reply(w, http.StatusOK, object{"flavor": describeFlavor(one)})
}

func (f *Fake) createFlavor(w http.ResponseWriter, r *http.Request, c call) {
	var request struct {
		ID, Name         string
		VCPUs, RAM, Disk int
		Ephemeral        int `json:"OS-FLV-EXT-DATA:ephemeral"`
	}
	if !c.by.admin() {
		novaError(w, http.StatusForbidden, forbiddenText)
		return
	}
	if !read(r, "flavor", &request) || request.Name == "" {
		novaError(w, http.StatusBadRequest, "Malformed request body")
		return
	}
	if request.ID == "" || request.ID == "auto" {
		request.ID = uuid.NewString()
	}
	made := &flavor{
		id: request.ID, name: request.Name, vcpus: request.VCPUs, ram: request.RAM, disk: request.Disk,
		ephemeral: request.Ephemeral, specs: map[string]string{},
	}
	f.flavors[made.id] = made
	reply(w, http.StatusOK, object{"flavor": describeFlavor(made)})
}

func (f *Fake) deleteFlavor(w http.ResponseWriter, r *http.Request, c call) {
	switch {
	case !c.by.admin():
		novaError(w, http.StatusForbidden, forbiddenText)
	case f.flavors[r.PathValue("id")] == nil:
		novaError(w, http.StatusNotFound, "Flavor "+r.PathValue("id")+" could not be found.")
	default:
		delete(f.flavors, r.PathValue("id"))
		reply(w, http.StatusAccepted, nil)
	}
}

func (f *Fake) specifyFlavor(w http.ResponseWriter, r *http.Request, c call) {
	specs := map[string]string{}
	one := f.flavors[r.PathValue("id")]
	switch {
	case !c.by.admin():
		novaError(w, http.StatusForbidden, forbiddenText)
	case one == nil || !read(r, "extra_specs", &specs):
		novaError(w, http.StatusNotFound, "Flavor "+r.PathValue("id")+" could not be found.")
	default:
		one.specs = specs
		reply(w, http.StatusOK, object{"extra_specs": specs})
	}
}

func (f *Fake) limits(w http.ResponseWriter, _ *http.Request, c call) {
	reply(w, http.StatusOK, object{"limits": object{"rate": []object{}, "absolute": object{
		"maxTotalCores": c.in.quota.Cores, "totalCoresUsed": c.in.used.Cores,
		"maxTotalInstances": c.in.quota.Instances, "totalInstancesUsed": c.in.used.Instances,
		"maxTotalRAMSize": c.in.quota.MemoryMiB, "totalRAMUsed": c.in.used.MemoryMiB,
	}}})
}

func (f *Fake) updateQuota(w http.ResponseWriter, r *http.Request, c call) {
	in := f.projects[r.PathValue("project")]
	var request struct{ Cores, Instances, RAM *int }
	switch {
	case !c.by.admin():
		novaError(w, http.StatusForbidden, forbiddenText)
		return
	case in == nil || !read(r, "quota_set", &request):
		novaError(w, http.StatusBadRequest, "Malformed request body")
		return
	}
	for _, one := range []struct{ to, from *int }{
		{&in.quota.Cores, request.Cores},
		{&in.quota.Instances, request.Instances},
		{&in.quota.MemoryMiB, request.RAM},
	} {
		if one.from != nil {
			*one.to = *one.from
		}
	}
	reply(w, http.StatusOK, object{"quota_set": object{
		"cores": in.quota.Cores, "instances": in.quota.Instances, "ram": in.quota.MemoryMiB,
	}})
}

func describeKeyPair(owner string, one keyPair) object {
	return object{"name": one.name, "public_key": one.public, "type": "ssh", "user_id": owner, "fingerprint": "00:00"}
}

// keyOwner is whose key pairs a request is about; only administrators see others'.
func keyOwner(w http.ResponseWriter, r *http.Request, c call) (string, bool) {
	asked := r.URL.Query().Get("user_id")
	if asked == "" || asked == c.by.user {
		return c.by.user, true
	}
	if !c.by.admin() {
		novaError(w, http.StatusForbidden, forbiddenText)
		return "", false
	}
	return asked, true
}

func (f *Fake) listKeyPairs(w http.ResponseWriter, r *http.Request, c call) {
	owner, ok := keyOwner(w, r, c)
	if !ok {
		return
	}
	found := []object{}
	for _, one := range f.keyPairs[owner] {
		found = append(found, object{"keypair": describeKeyPair(owner, one)})
	}
	reply(w, http.StatusOK, object{"keypairs": found})
}

func (f *Fake) showKeyPair(w http.ResponseWriter, r *http.Request, c call) {
	owner, ok := keyOwner(w, r, c)
	if !ok {
		return
	}
	one, ok := f.keyPairs[owner][r.PathValue("name")]
	if !ok {
		novaError(w, http.StatusNotFound, "Keypair "+r.PathValue("name")+" not found for user "+owner)
		return
	}
	reply(w, http.StatusOK, object{"keypair": describeKeyPair(owner, one)})
}

func (f *Fake) createKeyPair(w http.ResponseWriter, r *http.Request, c call) {
	var request struct {
		Name   string
		Public string `json:"public_key"`
	}
	if !read(r, "keypair", &request) || request.Name == "" {
		novaError(w, http.StatusBadRequest, "Malformed request body")
		return
	}
	if _, there := f.keyPairs[c.by.user][request.Name]; there {
		novaError(w, http.StatusConflict, "Key pair '"+request.Name+"' already exists.")
		return
	}
	f.addKeyPair(c.by.user, request.Name, request.Public)
	reply(w, http.StatusCreated, object{"keypair": describeKeyPair(c.by.user, f.keyPairs[c.by.user][request.Name])})
}

func (f *Fake) addKeyPair(owner, name, public string) {
	if f.keyPairs[owner] == nil {
		f.keyPairs[owner] = map[string]keyPair{}
	}
	f.keyPairs[owner][name] = keyPair{name: name, public: public}
}

func (f *Fake) deleteKeyPair(w http.ResponseWriter, r *http.Request, c call) {
	if _, there := f.keyPairs[c.by.user][r.PathValue("name")]; !there {
		novaError(w, http.StatusNotFound, "Keypair "+r.PathValue("name")+" not found for user "+c.by.user)
		return
	}
	delete(f.keyPairs[c.by.user], r.PathValue("name"))
	reply(w, http.StatusNoContent, nil)
}

type image struct{ id, name, status string }

func (f *Fake) imageRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /image/v2/images", f.scoped(f.listImages))
	mux.HandleFunc("GET /image/v2/images/{id}", f.scoped(f.showImage))
}

func describeImage(one *image) object {
	return object{
		"id": one.id, "name": one.name, "status": one.status, "visibility": "public", "size": 1024,
		"created_at": "2023-09-26T12:00:00Z", "updated_at": "2023-09-26T12:00:00Z", "tags": []string{},
	}
}

func (f *Fake) listImages(w http.ResponseWriter, r *http.Request, _ call) {
	query := r.URL.Query()
	found := []object{}
	for _, one := range f.images {
		if name := query.Get("name"); name != "" && name != one.name {
			continue
		}
		if status := query.Get("status"); status != "" && status != one.status {
			continue
		}
		found = append(found, describeImage(one))
	}
	reply(w, http.StatusOK, object{"images": found, "schema": "/v2/schemas/images", "first": "/v2/images"})
}

func (f *Fake) showImage(w http.ResponseWriter, r *http.Request, _ call) {
	one := f.images[r.PathValue("id")]
	if one == nil {
		http.Error(w, "<html><head><title>404 Not Found</title></head><body><h1>404 Not Found</h1>No image found with ID "+
			"</body></html>", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(describeImage(one)) //nolint:errchkjson // Glance has no envelope; the client may have gone
}
