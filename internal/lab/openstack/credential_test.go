// SPDX-License-Identifier: Apache-2.0

package openstack_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/openstack"
)

// TestReplaceApplicationCredential: a credential whose secret was lost with the run that made it is made again, and those
// with other names stay.
func TestReplaceApplicationCredential(t *testing.T) {
	t.Parallel()
	const path = "/users/u1/application_credentials"
	known := map[string]string{"c-other": "sidecar-b"} // names by id
	made := 0
	router := http.NewServeMux()
	router.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Credential struct{ Name string } `json:"application_credential"`
		}
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&asked))
		for _, name := range known {
			if name == asked.Credential.Name {
				http.Error(w, "Conflict occurred attempting to store application_credential", http.StatusConflict)
				return
			}
		}
		made++
		id := "c-" + string(rune('0'+made))
		known[id] = asked.Credential.Name
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"application_credential": map[string]string{"id": id, "secret": "s-" + id}})
	})
	router.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "sidecar-a", r.URL.Query().Get("name"))
		all := []map[string]string{} // a Keystone that does not filter
		for id, name := range known {
			all = append(all, map[string]string{"id": id, "name": name})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"application_credentials": all})
	})
	router.HandleFunc("DELETE "+path+"/{id}", func(w http.ResponseWriter, r *http.Request) {
		delete(known, r.PathValue("id"))
		w.WriteHeader(http.StatusNoContent)
	})
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	session := openstack.NewSession(server.Client(), server.URL, "u1")
	for _, want := range []string{"c-1", "c-2"} {
		got, err := session.ReplaceApplicationCredential(t.Context(), "sidecar-a")
		require.NoError(t, err)
		assert.Equal(t, openstack.ApplicationCredential{ID: want, Secret: "s-" + want}, got)
		assert.Equal(t, map[string]string{"c-other": "sidecar-b", want: "sidecar-a"}, known)
	}

	refusing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(refusing.Close)
	_, err := openstack.NewSession(refusing.Client(), refusing.URL, "u1").ReplaceApplicationCredential(t.Context(), "sidecar-a")
	assert.Equal(t, http.StatusNotFound, openstack.StatusOf(err))
}
