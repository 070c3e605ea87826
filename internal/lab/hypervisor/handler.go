// SPDX-License-Identifier: Apache-2.0

package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/mux"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
)

// ErrNotFound is the error for a server that a driver does not have.
var ErrNotFound = errors.New("no such server")

// Driver makes something of servers. Its methods are called concurrently, also for the
// same server, and MUST be idempotent: Nova repeats what it got no answer to.
type Driver interface {
	// Spawn makes a server and returns when it is certain to boot, not when it has booted.
	// An error's text becomes the fault of Nova's server.
	Spawn(ctx context.Context, server Server) error
	// Destroy removes all that there is of a server. It is no error if there is nothing.
	Destroy(ctx context.Context, uuid string) error
	// PowerOn, PowerOff and Reboot switch a server and keep its disks. The error is
	// ErrNotFound for one that was not spawned.
	PowerOn(ctx context.Context, uuid string) error
	PowerOff(ctx context.Context, uuid string) error
	Reboot(ctx context.Context, uuid string) error
	// Console returns the end of what the server printed; ErrNotFound as above.
	Console(ctx context.Context, uuid string) ([]byte, error)
}

const (
	// verbTimeout bounds what is done for one request, whether Nova waits for it or not:
	// half a machine would be worse than one that nobody waited for.
	verbTimeout = 2 * time.Minute
	maxBody     = 1 << 20
)

// Handler answers Nova's virt driver.
func Handler(driver Driver) http.Handler {
	router := mux.NewRouter()
	const server = "/v1/servers/{uuid}/"
	router.Path(server + "spawn").Methods(http.MethodPost).Handler(verb("spawn", func(ctx context.Context, server Server) error {
		return driver.Spawn(ctx, server)
	}))
	for name, do := range map[string]func(context.Context, string) error{
		"destroy": driver.Destroy, "power_on": driver.PowerOn, "power_off": driver.PowerOff, "reboot": driver.Reboot,
	} {
		router.Path(server + name).Methods(http.MethodPost).Handler(verb(name, func(ctx context.Context, server Server) error {
			return do(ctx, server.UUID)
		}))
	}
	router.Path(server + "console").Methods(http.MethodGet).HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := mux.Vars(r)["uuid"]
		if err := checkUUID(id); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		text, err := driver.Console(r.Context(), id)
		if err != nil {
			http.Error(w, err.Error(), status(err))
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(text) //nolint:gosec // not for a browser; and a client that has gone does not want it
	})
	return router
}

func verb(name string, do func(context.Context, Server) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		server, code, err := decode(r)
		if err != nil {
			http.Error(w, err.Error(), code)
			return
		}
		logger := logging.From(r.Context()).With("verb", name, "server", server)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), verbTimeout)
		defer cancel()
		began := time.Now()
		if err := do(ctx, server); err != nil {
			logger.Error("request failed", "error", err)
			http.Error(w, err.Error(), status(err))
			return
		}
		logger.Info("request done", "duration", time.Since(began))
		w.WriteHeader(http.StatusNoContent)
	}
}

// decode reads the server of a request; only spawn needs more of it than the UUID in the
// path.
func decode(r *http.Request) (Server, int, error) {
	var server Server
	body := http.MaxBytesReader(nil, r.Body, maxBody)
	if r.ContentLength != 0 {
		if err := json.NewDecoder(body).Decode(&server); err != nil {
			code, _ := httpserver.BodyError(err)
			return server, code, fmt.Errorf("decode server: %w", err)
		}
	}
	id := mux.Vars(r)["uuid"]
	if err := checkUUID(id); err != nil {
		return server, http.StatusBadRequest, err
	}
	if server.UUID != "" && server.UUID != id {
		return server, http.StatusBadRequest, fmt.Errorf("the path is of server %s and the body of %s", id, server.UUID)
	}
	server.UUID = id
	return server, 0, nil
}

func status(err error) int {
	if errors.Is(err, ErrNotFound) {
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// Serve answers on a unix socket until ctx ends. What the driver has made goes on.
func Serve(ctx context.Context, socket string, driver Driver) error {
	logger := logging.From(ctx)
	handler := Handler(driver)
	server, err := httpserver.New(httpserver.Config{ //nolint:contextcheck // listening does not wait, and asking whether a socket is served bounds itself
		Name: "hypervisor", Address: "unix://" + socket, MaxBody: maxBody,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handler.ServeHTTP(w, r.WithContext(logging.Into(r.Context(), logger)))
		}),
	})
	if err != nil {
		return fmt.Errorf("serve Nova: %w", err)
	}
	return server.Run(ctx)
}
