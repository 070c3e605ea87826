// SPDX-License-Identifier: Apache-2.0

package hypervisor_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/hypervisor"
)

const someUUID = "0b0e5a3c-9f56-4a0e-8a3e-3c8f5d1f8a11"

// body is what Nova's driver sends.
func body(userData string) string {
	return fmt.Sprintf(`{"uuid": %q, "name": "n", "hostname": "n", "host": "h", "project_id": "p", "user_id": "u",
"flavor": {"name": "f", "vcpus": 2, "ram": 4096, "disk": 25, "ephemeral": 5}, "image": "i", "key_name": "k", "key_data": "ssh-ed25519 A",
"metadata": {"a": "b"}, "user_data": %q, "nics": [{"port_id": "x", "mac": "fa:16:3e:00:00:01", "network": "CMS-lan", "network_id": "y",
"ips": ["10.88.16.10/20"], "gateway": "10.88.16.1"}]}`, someUUID, base64.StdEncoding.EncodeToString([]byte(userData)))
}

// recorder is a driver that notes what it is told.
type recorder struct {
	hypervisor.None

	spawned hypervisor.Server
	err     error
}

func (r *recorder) Spawn(_ context.Context, server hypervisor.Server) error {
	r.spawned = server
	return r.err
}

func request(t *testing.T, handler http.Handler, method, path, body string) (int, string) {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	return answer.Code, answer.Body.String()
}

func TestHandlerDecodesWhatNovaSends(t *testing.T) {
	t.Parallel()
	driver := &recorder{}
	code, _ := request(t, hypervisor.Handler(driver), http.MethodPost, "/v1/servers/"+someUUID+"/spawn", body("#cloud-config\n"))
	require.Equal(t, http.StatusNoContent, code)
	assert.Equal(t, "#cloud-config\n", string(driver.spawned.UserData))
	assert.Equal(t, hypervisor.Flavor{Name: "f", VCPUs: 2, RAM: 4096, Disk: 25, Ephemeral: 5}, driver.spawned.Flavor)
	address, err := driver.spawned.Address()
	require.NoError(t, err)
	assert.Equal(t, "10.88.16.10/20", address.String())
	assert.NotContains(t, driver.spawned.LogValue().String(), "cloud-config", "user data is a secret")

	driver.err = errors.New("no room")
	code, text := request(t, hypervisor.Handler(driver), http.MethodPost, "/v1/servers/"+someUUID+"/spawn", body(""))
	assert.Equal(t, http.StatusInternalServerError, code)
	assert.Equal(t, "no room\n", text, "the text becomes the server's fault")
}

func TestHandlerWithNone(t *testing.T) {
	t.Parallel()
	driver := hypervisor.NewNone()
	handler := hypervisor.Handler(driver)
	path := "/v1/servers/" + someUUID + "/"
	for _, step := range []struct {
		name, method, verb, body string
		code                     int
		running, there           bool
	}{
		{name: "on before spawn", method: http.MethodPost, verb: "power_on", code: http.StatusNotFound},
		{name: "console before spawn", method: http.MethodGet, verb: "console", code: http.StatusNotFound},
		{name: "spawn", method: http.MethodPost, verb: "spawn", body: body("x"), code: http.StatusNoContent, running: true, there: true},
		{name: "off", method: http.MethodPost, verb: "power_off", body: body("x"), code: http.StatusNoContent, there: true},
		{name: "on", method: http.MethodPost, verb: "power_on", code: http.StatusNoContent, running: true, there: true},
		{name: "reboot", method: http.MethodPost, verb: "reboot", code: http.StatusNoContent, running: true, there: true},
		{name: "console", method: http.MethodGet, verb: "console", code: http.StatusOK, running: true, there: true},
		{name: "wrong method", method: http.MethodGet, verb: "destroy", code: http.StatusMethodNotAllowed, running: true, there: true},
		{name: "wrong verb", method: http.MethodPost, verb: "explode", code: http.StatusNotFound, running: true, there: true},
		{name: "wrong body", method: http.MethodPost, verb: "spawn", body: "{", code: http.StatusBadRequest, running: true, there: true},
		{name: "destroy", method: http.MethodPost, verb: "destroy", code: http.StatusNoContent},
		{name: "destroy again", method: http.MethodPost, verb: "destroy", code: http.StatusNoContent},
	} {
		code, text := request(t, handler, step.method, path+step.verb, step.body)
		assert.Equal(t, step.code, code, "%s: %s", step.name, text)
		running, there := driver.Servers()[someUUID]
		assert.Equal(t, step.there, there, step.name)
		assert.Equal(t, step.running, running, step.name)
	}
	code, _ := request(t, handler, http.MethodPost, "/v1/servers/not-a-uuid/destroy", "")
	assert.Equal(t, http.StatusBadRequest, code)
	other := strings.Replace(path, "0b0e", "ffff", 1)
	code, text := request(t, handler, http.MethodPost, other+"spawn", body(""))
	assert.Equal(t, http.StatusBadRequest, code, text)
}

func TestServe(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- hypervisor.Serve(ctx, socket, hypervisor.NewNone()) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hypervisor/v1/servers/"+someUUID+"/console", nil)
		require.NoError(c, err)
		answer, err := client.Do(ask)
		require.NoError(c, err)
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		assert.Equal(c, http.StatusNotFound, answer.StatusCode, string(text))
	}, 10*time.Second, 20*time.Millisecond)
	client.CloseIdleConnections()
	cancel()
	require.NoError(t, <-ended)
}

func TestMachinesConfiguration(t *testing.T) {
	t.Parallel()
	_, err := hypervisor.NewMachines(hypervisor.Config{Lab: "a/b", Dir: "relative"})
	for _, part := range []string{"LAN is required", "root is required", "slashes", "absolute path"} {
		require.ErrorContains(t, err, part)
	}
	_, err = hypervisor.NewMachines(hypervisor.Config{Lab: "a", Dir: "/d", LAN: "l", Root: "/nonexistent"})
	require.ErrorContains(t, err, "no directory")
	machines, err := hypervisor.NewMachines(hypervisor.Config{Lab: "a", Dir: filepath.Join(t.TempDir(), "none"), LAN: "l", Root: t.TempDir()})
	require.NoError(t, err)
	all, err := machines.List()
	require.NoError(t, err)
	assert.Empty(t, all)
	require.ErrorIs(t, machines.PowerOff(t.Context(), someUUID), hypervisor.ErrNotFound)
	require.Error(t, machines.Destroy(t.Context(), "../../etc"), "a UUID names directories")
	_, err = machines.Console(t.Context(), someUUID)
	require.ErrorIs(t, err, hypervisor.ErrNotFound)
}
