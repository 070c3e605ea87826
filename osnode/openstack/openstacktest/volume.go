// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"encoding/json"
	"maps"
	"net/http"

	"github.com/google/uuid"
)

type volume struct {
	id, project, server, kind string
	size                      int
	ephemeral                 bool
	metadata                  map[string]string
}

func (f *Fake) volumeRoutes(mux *http.ServeMux) {
	const base = "/volume/v3/{project}/volumes"
	mux.HandleFunc("GET "+base+"/detail", f.scoped(f.listVolumes))
	mux.HandleFunc("GET "+base+"/{id}", f.scoped(f.showVolume))
	mux.HandleFunc("PUT "+base+"/{id}", f.scoped(f.updateVolume))
	mux.HandleFunc("DELETE "+base+"/{id}", f.scoped(f.deleteVolume))
}

func (f *Fake) newVolume(project, server string, size int, kind string, ephemeral bool) *volume {
	made := &volume{
		id: uuid.NewString(), project: project, server: server, kind: kind, size: size, ephemeral: ephemeral,
		metadata: map[string]string{},
	}
	f.volumes[made.id] = made
	return made
}

func describeVolume(one *volume) object {
	attachments, status := []object{}, "available"
	if one.server != "" {
		attachments, status = append(attachments, object{"server_id": one.server, "volume_id": one.id}), "in-use"
	}
	return object{
		"id": one.id, "name": "", "status": status, "size": one.size, "volume_type": one.kind,
		"metadata": one.metadata, "attachments": attachments,
	}
}

func (f *Fake) listVolumes(w http.ResponseWriter, r *http.Request, c call) {
	wanted := map[string]string{}
	if text := r.URL.Query().Get("metadata"); text != "" {
		// The filter is written as a Python dictionary.
		var translated []byte
		for _, letter := range []byte(text) {
			if letter == '\'' {
				letter = '"'
			}
			translated = append(translated, letter)
		}
		if json.Unmarshal(translated, &wanted) != nil {
			cinderError(w, http.StatusBadRequest, "Invalid filter.")
			return
		}
	}
	found := []object{}
	for _, one := range f.volumes {
		has := maps.Clone(one.metadata)
		maps.Copy(has, wanted)
		if mine(c, one.project) && maps.Equal(has, one.metadata) {
			found = append(found, describeVolume(one))
		}
	}
	reply(w, http.StatusOK, object{"volumes": found})
}

func cinderError(w http.ResponseWriter, code int, message string) { novaError(w, code, message) }

// volumeOf is the volume that a request is about.
func (f *Fake) volumeOf(w http.ResponseWriter, r *http.Request, c call) *volume {
	one := f.volumes[r.PathValue("id")]
	if one == nil || !mine(c, one.project) {
		cinderError(w, http.StatusNotFound, "Volume "+r.PathValue("id")+" could not be found.")
		return nil
	}
	return one
}

func (f *Fake) showVolume(w http.ResponseWriter, r *http.Request, c call) {
	if one := f.volumeOf(w, r, c); one != nil {
		reply(w, http.StatusOK, object{"volume": describeVolume(one)})
	}
}

func (f *Fake) updateVolume(w http.ResponseWriter, r *http.Request, c call) {
	one := f.volumeOf(w, r, c)
	if one == nil {
		return
	}
	var request struct{ Metadata map[string]string }
	if !read(r, "volume", &request) {
		cinderError(w, http.StatusBadRequest, "Malformed request body")
		return
	}
	if request.Metadata != nil {
		one.metadata = request.Metadata
	}
	reply(w, http.StatusOK, object{"volume": describeVolume(one)})
}

func (f *Fake) deleteVolume(w http.ResponseWriter, r *http.Request, c call) {
	one := f.volumeOf(w, r, c)
	switch {
	case one == nil:
	case one.server != "":
		cinderError(w, http.StatusBadRequest, "Invalid volume: Volume status must be available or error.")
	default:
		delete(f.volumes, one.id)
		reply(w, http.StatusAccepted, nil)
	}
}
