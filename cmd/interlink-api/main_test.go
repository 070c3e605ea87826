// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/programtest"
)

//nolint:gochecknoglobals // built once for all tests
var binary programtest.Binary

func TestMain(m *testing.M) { os.Exit(binary.Run(m)) }

func unixClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
}

func ask(t *testing.T, client *http.Client, method, url string) (int, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	answer, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

// plugin serves a plugin's probe on a unix socket.
func plugin(t *testing.T, path string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

func TestProgram(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	socket := filepath.Join(directory, "api.sock")
	plugin(t, filepath.Join(directory, "plugin.sock"))
	file, ops := filepath.Join(directory, "config.yaml"), programtest.FreeAddress(t)
	require.NoError(t, os.WriteFile(file, []byte(`
InterlinkAddress: unix://`+socket+`
SidecarURL: http://127.0.0.1
SidecarPort: 1
OpsAddress: `+ops+`
VerboseLogging: true
Pprof: {Enabled: true, Port: "0"}
`), 0o600))

	t.Run("check", func(t *testing.T) {
		out, err := binary.Command(t, "--config", file, "--check").CombinedOutput()
		require.NoError(t, err, string(out))
		assert.Equal(t, "the configuration is valid\n", string(out))
	})
	t.Run("problems", func(t *testing.T) {
		bad := filepath.Join(directory, "bad.yaml")
		require.NoError(t, os.WriteFile(bad, []byte("InterlinkAddress: http://0.0.0.0:3000\nSidecarURL: ftp://x\n"), 0o600))
		command := binary.Command(t, "--interlinkconfigpath", bad)
		out, err := command.CombinedOutput()
		require.Error(t, err)
		assert.Equal(t, 1, command.ProcessState.ExitCode())
		assert.Contains(t, string(out), "SidecarURL \"ftp://x\"")
		assert.Contains(t, string(out), "nobody would be authenticated")
	})
	t.Run("no file", func(t *testing.T) {
		command := binary.Command(t)
		command.Env = append(os.Environ(), "INTERLINKCONFIGPATH="+filepath.Join(directory, "none.yaml"))
		out, err := command.CombinedOutput()
		require.Error(t, err)
		assert.Contains(t, string(out), "give --config (see --help for an example)")
	})
	t.Run("serve", func(t *testing.T) {
		command := binary.Command(t, "--log-format", "json", "--pprof")
		command.Env = append(os.Environ(), "INTERLINKCONFIGPATH="+file, "SIDECARURL=unix://"+filepath.Join(directory, "plugin.sock"))
		process := programtest.Start(t, command)
		client := unixClient(socket)
		require.Eventually(t, func() bool {
			code, body, err := ask(t, client, http.MethodPost, "http://unix/pinglink")
			return err == nil && code == http.StatusOK && body == `{"status":"ok"}`
		}, 20*time.Second, 50*time.Millisecond, process.String())
		require.Eventually(t, func() bool { return strings.Count(process.String(), "server is listening") == 3 }, 5*time.Second, 20*time.Millisecond)
		code, text, err := ask(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, http.MethodGet, "http://"+ops+"/debug/pprof/cmdline")
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, code)
		assert.Contains(t, text, "--pprof")
		assert.Contains(t, process.String(), `"msg":"callers are not authenticated"`)
		require.Eventually(t, func() bool { return strings.Contains(process.String(), `"level":"DEBUG"`) },
			5*time.Second, 20*time.Millisecond, "upstream's VerboseLogging")
		require.NoError(t, process.End(syscall.SIGTERM), process)
		assert.NoFileExists(t, socket)
	})
}
