// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/service"
)

type settings struct {
	Listen string             `json:"listen,omitempty"`
	TLS    service.WebhookTLS `json:"tls,omitzero"`
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func load(path string) (*settings, error) {
	s := &settings{Listen: "default"}
	return service.ReadConfig(path, s, func() error {
		if s.Listen == "bad" {
			return errors.New("listen: bad")
		}
		return nil
	})
}

func TestProgram(t *testing.T) {
	t.Parallel()
	good, bad := write(t, "listen: here\n"), write(t, "listen: bad\n")
	for name, test := range map[string]struct {
		args   []string
		out    string
		err    string
		served string
	}{
		"serves":           {args: []string{"--config", good}, served: "here"},
		"checks":           {args: []string{"--config", good, "--check"}, out: "the configuration is valid\n"},
		"check beats text": {args: []string{"--config", good, "--check", "--print"}, out: "the configuration is valid\n"},
		"prints":           {args: []string{"--config", good, "--print"}, out: "of here"},
		"bad":              {args: []string{"--config", bad, "--check"}, err: "configuration " + bad + ":\nlisten: bad"},
		"arguments":        {args: []string{"--config", good, "more"}, err: "more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var printed bool
			var served string
			command := service.Program[*settings]{
				Name: "program", EnvPrefix: "SERVICE_TEST_", Config: "/none", Load: load,
				Print: func(s *settings) ([]byte, error) {
					if !printed {
						return nil, nil
					}
					return []byte("of " + s.Listen), nil
				},
				Serve: func(_ context.Context, s *settings) error { served = s.Listen; return nil },
			}.Command()
			command.Flags().BoolVar(&printed, "print", false, "")
			var out bytes.Buffer
			command.SetOut(&out)
			command.SetErr(io.Discard)
			command.SetArgs(test.args)
			command.SilenceUsage = true
			err := command.ExecuteContext(t.Context())
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.out, out.String())
			assert.Equal(t, test.served, served)
		})
	}
}

func TestEnvironmentSetsFlags(t *testing.T) {
	t.Setenv("SERVICE_TEST_CONFIG", write(t, "listen: there\n"))
	var served string
	command := service.Program[*settings]{
		Name: "program", EnvPrefix: "SERVICE_TEST_", Config: "/none", Load: load,
		Serve: func(_ context.Context, s *settings) error { served = s.Listen; return nil },
	}.Command()
	command.SetArgs(nil)
	require.NoError(t, command.ExecuteContext(t.Context()))
	assert.Equal(t, "there", served)
}

func TestReadConfig(t *testing.T) {
	t.Parallel()
	got, err := load(write(t, "tls: {certFile: a}\n"))
	require.NoError(t, err)
	assert.Equal(t, "default", got.Listen)
	assert.Equal(t, []string{"keyFile", "clientCAFile"}, got.TLS.Missing())
	_, err = load(write(t, "lisen: a\n"))
	require.ErrorContains(t, err, `"lisen"`)
	_, err = load(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	tls := service.WebhookTLS{CertFile: "a", KeyFile: "b", ClientCAFile: "c"}
	assert.Empty(t, tls.Missing())
	assert.Equal(t, &httpserver.TLS{CertFile: "a", KeyFile: "b", ClientCAFile: "c", RequireClientCert: true}, tls.Server())
}

func TestReadPart(t *testing.T) {
	t.Parallel()
	parse := func(content []byte) (string, error) {
		if len(content) == 0 {
			return "", errors.New("empty")
		}
		return string(content), nil
	}
	got, err := service.ReadPart("field", "", "fallback", parse)
	require.NoError(t, err)
	assert.Equal(t, "fallback", got)
	got, err = service.ReadPart("field", write(t, "text"), "fallback", parse)
	require.NoError(t, err)
	assert.Equal(t, "text", got)
	empty := write(t, "")
	_, err = service.ReadPart("field", empty, "fallback", parse)
	require.EqualError(t, err, "field "+empty+": empty")
	_, err = service.ReadPart("field", "/none", "fallback", parse)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestRunServesAndEndsTogether(t *testing.T) {
	t.Parallel()
	registry, flush, err := service.Observe(t.Context(), "program")
	require.NoError(t, err)
	defer flush()
	main, err := httpserver.New(httpserver.Config{Address: "127.0.0.1:0", Handler: http.NotFoundHandler()})
	require.NoError(t, err)
	servers, err := service.WithOps(main, httpserver.OpsConfig{Address: "127.0.0.1:0", Registry: registry})
	require.NoError(t, err)
	require.Len(t, servers, 2)
	failure := errors.New("no")
	err = service.Run(t.Context(), servers, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+servers[1].Addr().String()+"/metrics", http.NoBody)
		if err != nil {
			return err
		}
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		assert.Contains(t, string(text), "process_cpu_seconds_total")
		assert.Contains(t, string(text), "go_goroutines")
		return errors.Join(err, failure)
	})
	require.ErrorIs(t, err, failure, "one that fails ends the others")
}

func TestWithOpsClosesTheMainServer(t *testing.T) {
	t.Parallel()
	main, err := httpserver.New(httpserver.Config{Address: "127.0.0.1:0", Handler: http.NotFoundHandler()})
	require.NoError(t, err)
	_, err = service.WithOps(main, httpserver.OpsConfig{Address: "nowhere"})
	require.ErrorContains(t, err, "nowhere")
	again, err := httpserver.New(httpserver.Config{Address: main.Addr().String(), Handler: http.NotFoundHandler()})
	require.NoError(t, err, "the address is free again")
	servers, err := service.WithOps(again, httpserver.OpsConfig{})
	require.NoError(t, err)
	assert.Equal(t, []*httpserver.Server{again}, servers)
	require.NoError(t, again.Close())
}
