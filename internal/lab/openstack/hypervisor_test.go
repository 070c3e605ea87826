// SPDX-License-Identifier: Apache-2.0

//go:build integration

package openstack_test

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/stretchr/testify/require"
)

type flavor struct {
	Name                        string
	VCPUs, RAM, Disk, Ephemeral int
}

// machine is what Nova says of a server.
type machine struct {
	UUID, Name, Hostname, Host, Image string
	ProjectID                         string `json:"project_id"`
	UserID                            string `json:"user_id"`
	KeyName                           string `json:"key_name"`
	KeyData                           string `json:"key_data"`
	UserData                          []byte `json:"user_data"`
	Flavor                            flavor
	Metadata                          map[string]string
	NICs                              []struct {
		MAC, Network, Gateway string
		IPs                   []string
	}
}

// hypervisor records what it is asked for, and refuses or delays as it is told.
type hypervisor struct {
	socket string

	mu     sync.Mutex
	asked  map[string]machine // by uuid/verb
	status int
	text   string
	gate   chan struct{} // spawns wait until it is closed
}

func serveHypervisor(t *testing.T) *hypervisor {
	t.Helper()
	h := &hypervisor{socket: filepath.Join(t.TempDir(), "hv.sock"), asked: map[string]machine{}}
	router := mux.NewRouter()
	router.HandleFunc("/v1/servers/{uuid}/console", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("console of " + mux.Vars(r)["uuid"]))
	}).Methods(http.MethodGet)
	router.HandleFunc("/v1/servers/{uuid}/{verb:spawn|destroy|power_on|power_off|reboot}", h.serve).Methods(http.MethodPost)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", h.socket)
	require.NoError(t, err)
	server := &http.Server{Handler: router, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	return h
}

func (h *hypervisor) serve(w http.ResponseWriter, r *http.Request) {
	var asked machine
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.UUID != mux.Vars(r)["uuid"] {
		http.Error(w, "cannot read that", http.StatusBadRequest)
		return
	}
	verb := mux.Vars(r)["verb"]
	h.mu.Lock()
	h.asked[asked.UUID+"/"+verb] = asked
	status, text, gate := h.status, h.text, h.gate
	h.mu.Unlock()
	if verb != "spawn" {
		return
	}
	if gate != nil {
		<-gate
	}
	if status != 0 {
		http.Error(w, text, status)
	}
}

func (h *hypervisor) refuse(status int, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status, h.text = status, text
}

// hold makes spawns wait until release is called.
func (h *hypervisor) hold() (release func()) {
	gate := make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gate = gate
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.gate = nil
		close(gate)
	})
}

// has tells whether the hypervisor was asked for something.
func (h *hypervisor) has(uuid, verb string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, asked := h.asked[uuid+"/"+verb]
	return asked
}

// body is what the hypervisor was asked for.
func (h *hypervisor) body(t *testing.T, uuid, verb string) machine {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Contains(t, h.asked, uuid+"/"+verb)
	return h.asked[uuid+"/"+verb]
}
