// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/httpserver/httpservertest"
	"github.com/cloudveneto/caas/sidecar/api"
)

func read(t *testing.T, text string) (api.Settings, error) {
	t.Helper()
	return api.ReadSettings(httpservertest.Write(t, t.TempDir(), "InterLinkConfig.yaml", []byte(text)))
}

// upstreamFile is a configuration file as upstream interLink's users have it.
const upstreamFile = `
InterlinkAddress: "http://127.0.0.1"
InterlinkPort: 3000
SidecarURL: "unix:///var/run/plugin.sock"
SidecarPort: "0"
VerboseLogging: true
ErrorsOnlyLogging: false
DataRootFolder: "/home/interlink/.interlink/"
TLS:
  Enabled: false
Pprof:
  Enabled: true
JobScriptBuildConfig:
  SingularityHubProxy:
    server: "https://hub"
    master_token: "t"
    cache_validity_seconds: 5
  ApptainerOptions:
    executable: apptainer
    fakeroot: true
  Volumes:
    scratch_area: /tmp
    additional_directories_in_path: [/opt/bin]
`

func TestUpstreamFileIsAccepted(t *testing.T) {
	t.Parallel()
	settings, err := read(t, upstreamFile)
	require.NoError(t, err)
	settings.ApplyEnvironment(environment{"INTERLINKPORT": "3001", "SIDECARURL": "http://127.0.0.2/", "SIDECARPORT": "4000"}.get())
	settings.Complete()
	require.NoError(t, settings.Validate(false))
	server, err := settings.Server()
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:3001", server.Address)
	assert.Nil(t, server.TLS)
	assert.Equal(t, int64(64<<20), server.MaxBody)
	cfg, err := settings.Config()
	require.NoError(t, err)
	assert.Equal(t, "http://127.0.0.2:4000", cfg.PluginURL)
	assert.Equal(t, api.CreateObject, cfg.CreateForm)
	assert.Nil(t, cfg.Authenticate)
	assert.Equal(t, "apptainer", cfg.JobConfig.ApptainerOptions.Executable)
	assert.Equal(t, []string{"/opt/bin"}, cfg.JobConfig.VolumesOptions.AdditionalDirectoriesInPath)
	assert.Equal(t, "6061", settings.Pprof.Port)
}

// TestShippedConfigurationsAreValid holds the files in deploy to the code.
func TestShippedConfigurationsAreValid(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../../deploy/interlink-api/InterLinkConfig.yaml")
	require.NoError(t, err)
	manifest, err := os.ReadFile("../../deploy/interlink-api/kubernetes.yaml")
	require.NoError(t, err)
	var configMap corev1.ConfigMap
	require.NoError(t, yaml.Unmarshal([]byte(strings.Split(string(manifest), "\n---\n")[0]), &configMap))
	withAuth := strings.ReplaceAll(strings.ReplaceAll(string(file), "\n# Auth", "\nAuth"), "\n#  ", "\n ")
	for name, text := range map[string]string{
		"example": string(file), "example with all of Auth": withAuth, "manifest": configMap.Data["InterLinkConfig.yaml"],
	} {
		settings, err := read(t, text)
		require.NoError(t, err, name)
		settings.Complete()
		require.NoError(t, settings.Validate(false), name)
		assert.NotEmpty(t, settings.SidecarURL, name)
	}
	settings, err := read(t, withAuth)
	require.NoError(t, err)
	assert.NotEmpty(t, settings.Auth.TokenFile)
	assert.Len(t, settings.Auth.OIDC, 1)
}

type environment map[string]string

func (e environment) get() func(string) string { return func(name string) string { return e[name] } }

func TestOwnKeys(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	ca := httpservertest.NewCA(t, "ca")
	certificate, key := ca.Issue(t, "api")
	crt := httpservertest.Write(t, directory, "tls.crt", certificate)
	private := httpservertest.Write(t, directory, "tls.key", key)
	authority := httpservertest.Write(t, directory, "ca.crt", ca.PEM())
	tokens := httpservertest.Write(t, directory, "tokens", []byte("0123456789abcdef,a"))
	settings, err := read(t, `
InterlinkAddress: https://0.0.0.0
InterlinkPort: "443"
SidecarURL: https://plugin.example.org:8443
SidecarTLS: {CACertFile: `+authority+`, CertFile: `+crt+`, KeyFile: `+private+`}
SidecarCreateForm: array
TLS: {Enabled: true, CertFile: `+crt+`, KeyFile: `+private+`, CACertFile: `+authority+`}
Auth:
  TokenFile: `+tokens+`
  OIDC:
  - {Issuer: "https://iam.example.org/", Audience: interlink, CACertFile: `+authority+`, Groups: [a], RequiredClaims: {org: infn}}
JobScriptURLs: ["https://builder.example.org/"]
JobScriptBuildConfig: {}
OpsAddress: none
GracePeriod: 5s
Limits: {MaxBodyBytes: 1024, MaxBufferedBytes: 4096, RequestsPerClient: 3, StreamsPerClient: 4, SessionsPerClient: 5, Sessions: 7, SessionIdle: 2m, Patience: 1s, PluginTimeout: 1m}
StatusCache: {MaxPods: 5, MaxBytes: 6, MaxAge: 1h}
`)
	require.NoError(t, err)
	settings.Complete()
	require.NoError(t, settings.Validate(false))
	server, err := settings.Server()
	require.NoError(t, err)
	assert.Equal(t, authority, server.TLS.ClientCAFile)
	assert.False(t, server.TLS.RequireClientCert, "a token is another way in")
	assert.Equal(t, 5*time.Second, server.GracePeriod)
	cfg, err := settings.Config()
	require.NoError(t, err)
	assert.NotNil(t, cfg.Authenticate)
	assert.NotNil(t, cfg.PluginTLS.GetClientCertificate)
	assert.NotNil(t, cfg.JobScriptClient)
	assert.Equal(t, api.CreateArray, cfg.CreateForm)
	assert.Equal(t, api.Limits{
		MaxBody: 1024, MaxBuffered: 4096, RequestsPerClient: 3, StreamsPerClient: 4, SessionsPerClient: 5, Sessions: 7, SessionIdle: 2 * time.Minute,
		Patience: time.Second, PluginTimeout: time.Minute,
	}, cfg.Limits)
	assert.Equal(t, api.CacheLimits{Pods: 5, Bytes: 6, Age: time.Hour}, cfg.Cache)
	gateway, err := api.New(cfg)
	require.NoError(t, err)
	gateway.Close()

	settings.Auth = api.AuthSettings{}
	server, err = settings.Server()
	require.NoError(t, err)
	assert.True(t, server.TLS.RequireClientCert)
}

func TestUnknownKeysAreErrors(t *testing.T) {
	t.Parallel()
	_, err := read(t, "SidecarUrls: x\n")
	require.ErrorContains(t, err, "SidecarUrls")
	_, err = read(t, "SidecarURL: a\nSidecarURL: b\n")
	require.ErrorContains(t, err, "SidecarURL")
	_, err = api.ReadSettings("/does/not/exist")
	require.ErrorContains(t, err, "/does/not/exist")
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	settings, err := read(t, `
InterlinkAddress: tcp://x
SidecarURL: http://a:1
SidecarPort: 2
SidecarCreateForm: list
JobScriptTemplate: /etc/t
JobScriptURLs: [ftp://x]
VerboseLogging: true
ErrorsOnlyLogging: true
OpsAddress: nine
Auth: {OIDC: [{Issuer: "http://plain"}]}
Limits: {MaxBodyBytes: -1, Patience: -1s}
`)
	require.NoError(t, err)
	settings.Complete()
	err = settings.Validate(false)
	for _, want := range []string{
		`InterlinkAddress "tcp://x"`, `SidecarURL "http://a:1" with SidecarPort "2": the port is given twice`,
		`JobScriptTemplate "/etc/t": templates are not supported`, `JobScriptURLs "ftp://x"`, "JobScriptBuildConfig is needed",
		"VerboseLogging and ErrorsOnlyLogging", `OpsAddress "nine"`, `Auth.OIDC[0].Issuer "http://plain"`, "Auth.OIDC[0].Audience",
		"Limits.MaxBodyBytes -1", "Limits.Patience -1s",
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	const plugin = "SidecarURL: http://127.0.0.1:4000\n"
	for name, test := range map[string]struct {
		file     string
		insecure bool
		address  string
		problem  string
	}{
		"upstream's form":     {file: "InterlinkAddress: http://127.0.0.1\nInterlinkPort: '3000'", address: "127.0.0.1:3000"},
		"trailing slash":      {file: "InterlinkAddress: http://localhost/\nInterlinkPort: 3000", address: "localhost:3000"},
		"IPv6":                {file: "InterlinkAddress: http://[::1]:3000", address: "[::1]:3000"},
		"unix socket":         {file: "InterlinkAddress: unix:///run/a.sock\nInterlinkPort: 0", address: "unix:///run/a.sock"},
		"relative socket":     {file: "InterlinkAddress: unix://run/a.sock", problem: "want http://host, https://host or unix:///path"},
		"nobody is checked":   {file: "InterlinkAddress: http://0.0.0.0:3000", problem: "nobody would be authenticated on 0.0.0.0:3000"},
		"nobody, on purpose":  {file: "InterlinkAddress: http://0.0.0.0:3000", insecure: true, address: "0.0.0.0:3000"},
		"no port":             {file: "InterlinkAddress: http://localhost", problem: `port "" is no number`},
		"port of text":        {file: "InterlinkAddress: http://localhost\nInterlinkPort: http", problem: `port "http" is no number`},
		"port zero":           {file: "InterlinkAddress: http://localhost\nInterlinkPort: 0", problem: `port "0" is no number`},
		"path":                {file: "InterlinkAddress: http://localhost:1/x", problem: "want nothing after the host"},
		"https without files": {file: "InterlinkAddress: https://127.0.0.1:1", problem: "TLS.CertFile"},
		"TLS over http":       {file: "InterlinkAddress: http://127.0.0.1:1\nTLS: {Enabled: true}", problem: "must start with https://"},
		"client CA over http": {file: "InterlinkAddress: http://127.0.0.1:1\nTLS: {CACertFile: x}", problem: "TLS.CACertFile"},
		"nothing":             {file: "", problem: `InterlinkAddress ""`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings, err := read(t, plugin+test.file)
			require.NoError(t, err)
			settings.Complete()
			err = settings.Validate(test.insecure)
			if test.problem != "" {
				require.ErrorContains(t, err, test.problem)
				return
			}
			require.NoError(t, err)
			server, err := settings.Server()
			require.NoError(t, err)
			assert.Equal(t, test.address, server.Address)
		})
	}
}

func TestFilesThatAreMissingAreNamed(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{
		"token file": "Auth: {TokenFile: /nope}",
		"issuer CA":  "Auth: {OIDC: [{Issuer: 'https://x', Audience: y, CACertFile: /nope}]}",
		"plugin CA":  "SidecarTLS: {CACertFile: /nope}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings, err := read(t, "InterlinkAddress: http://127.0.0.1:1\nSidecarURL: https://127.0.0.1:2\n"+file)
			require.NoError(t, err)
			settings.Complete()
			require.NoError(t, settings.Validate(false))
			_, err = settings.Config()
			require.ErrorContains(t, err, "/nope")
		})
	}
}
