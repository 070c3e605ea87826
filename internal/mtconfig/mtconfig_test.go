// SPDX-License-Identifier: Apache-2.0

package mtconfig_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/mtconfig"
)

// clusterCA writes a CA's files and returns their names.
func clusterCA(t *testing.T) mtconfig.CA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(20 * 365 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	encoded, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	files := mtconfig.CA{CertFile: filepath.Join(t.TempDir(), "ca.crt"), KeyFile: filepath.Join(t.TempDir(), "ca.key")}
	require.NoError(t, os.WriteFile(files.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600))
	require.NoError(t, os.WriteFile(files.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}), 0o600))
	return files
}

// site is one in a directory of its own.
func site(t *testing.T, change func(*mtconfig.Site)) mtconfig.Site {
	t.Helper()
	s := mtconfig.Site{
		Directory: filepath.Join(t.TempDir(), "mt"), ClusterCA: clusterCA(t), Keystone: &mtconfig.Keystone{AuthURL: "https://keystone.example.org:5000/v3"},
	}
	if change != nil {
		change(&s)
	}
	s, err := s.Complete()
	require.NoError(t, err)
	return s
}

func read(t *testing.T, s mtconfig.Site, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.Directory, name))
	require.NoError(t, err)
	return string(content)
}

func document(t *testing.T, s mtconfig.Site, name string) map[string]any {
	t.Helper()
	var content map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(read(t, s, name)), &content))
	return content
}

func install(t *testing.T, s mtconfig.Site, options mtconfig.Options) []string {
	t.Helper()
	written, err := mtconfig.Install(s, options)
	require.NoError(t, err)
	return written
}

func findings(t *testing.T, s mtconfig.Site, now time.Time) map[string]string {
	t.Helper()
	found, err := mtconfig.Check(s, now)
	require.NoError(t, err)
	byFile := map[string]string{}
	for _, finding := range found {
		byFile[finding.File] += finding.Problem
	}
	return byFile
}

func TestParse(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"little is enough": {text: "keystone: {authURL: https://k.example.org/v3}"},
		"unknown key":      {text: "keystone: {authURL: https://k.example.org/v3}\nreplica: 2", want: []string{"replica"}},
		"nobody":           {text: "{}", want: []string{"nobody could log in"}},
		"all problems": {
			text: `{directory: here, apiServer: "http://x", keystone: {authURL: "http://k", options: {caFile: x}}, replicas: 9, runs: docker,
				trusted: ["system:*"], authz: {trusted: {}}, policy: {trustedUsers: []}, admission: {tls: {}}}`,
			want: []string{
				`directory: "here"`, `apiServer: "http://x"`, `keystone.authURL: "http://k"`, "keystone.options.caFile", "replicas: 9", `runs: "docker"`,
				`trusted: "system:*"`, "authz.trusted", "policy.trustedUsers", "admission.tls",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := mtconfig.Parse([]byte(test.text))
			if len(test.want) == 0 {
				require.NoError(t, err)
				assert.Equal(t, "/etc/kubernetes/mt", s.Directory)
				assert.Equal(t, 2, s.Replicas)
				return
			}
			require.Error(t, err)
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

func TestInstall(t *testing.T) {
	t.Parallel()
	keystoneCA := filepath.Join(t.TempDir(), "keystone.pem")
	require.NoError(t, os.WriteFile(keystoneCA, []byte("its CA"), 0o600))
	s := site(t, func(s *mtconfig.Site) {
		s.Keystone.CAFile, s.Keystone.Options = keystoneCA, map[string]any{"maxSession": "72h"}
		s.Trusted, s.AdminGroups = []string{"system:serviceaccount:monitoring:operator", "prometheus"}, []string{"admins"}
		s.Authz = map[string]any{"listMode": "project"}
		s.Tenants = map[string]any{"roles": []any{"mt-tenant"}}
	})
	assert.NotEmpty(t, install(t, s, mtconfig.Options{}))
	assert.Empty(t, install(t, s, mtconfig.Options{}), "once more changes nothing")
	assert.Empty(t, findings(t, s, time.Now()))

	assert.NotContains(t, read(t, s, "authn.yaml"), "/etc/kubernetes/mt")
	keystone, _ := document(t, s, "authn.yaml")["keystone"].(map[string]any)
	assert.Equal(t, map[string]any{
		"authURL": s.Keystone.AuthURL, "caFile": filepath.Join(s.Directory, "keystone-ca.crt"), "maxSession": "72h",
	}, keystone)
	assert.Equal(t, map[string]any{
		"kubeconfig": filepath.Join(s.Directory, "tenants.kubeconfig"), "roles": []any{"mt-tenant"},
	}, document(t, s, "authn.yaml")["tenants"])
	assert.Equal(t, "its CA", read(t, s, "keystone-ca.crt"))
	assert.Equal(t, "project", document(t, s, "authz.yaml")["listMode"])
	assert.Equal(t, true, document(t, s, "authz.yaml")["reusePort"])
	authorization := read(t, s, mtconfig.AuthorizationFile)
	for _, condition := range []string{
		"osnode-controller", "monitoring:operator",
		// Whoever has logged in is asked about, under whatever name.
		"request.user != 'prometheus' || 'osn:authenticated' in request.groups",
		"!('admins' in request.groups) || 'osn:authenticated' in request.groups",
	} {
		assert.Equal(t, 1, strings.Count(strings.ReplaceAll(authorization, "''", "'"), condition), condition)
	}
	assert.Contains(t, read(t, s, mtconfig.WebhooksFile), base64.StdEncoding.EncodeToString([]byte(read(t, s, "ca.crt"))))
	for _, name := range mtconfig.Manifests() {
		assert.NotEmpty(t, read(t, s, name))
	}
	for _, name := range []string{"authz-reader.kubeconfig", "admission.kubeconfig", "tenants.kubeconfig", mtconfig.AuthnKubeconfig} {
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.Directory, name))
		require.NoError(t, err, name)
		for _, file := range []string{config.CertFile, config.KeyFile, config.CAFile} {
			assert.FileExists(t, file, name)
		}
	}
	for _, name := range []string{"ca.key", "authz.key", "authz-reader.kubeconfig"} {
		info, err := os.Stat(filepath.Join(s.Directory, name))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	arguments := strings.Fields(read(t, s, "kube-apiserver.args"))
	assert.Equal(t, s.APIServerArgs(), arguments)
	assert.Contains(t, read(t, s, "kubeadm.yaml"), "name: authorization-config")
}

func TestUnits(t *testing.T) {
	t.Parallel()
	s := site(t, func(s *mtconfig.Site) { s.Replicas, s.ProgramDir = 2, "/opt/caas/bin" })
	install(t, s, mtconfig.Options{})
	unit := read(t, s, "systemd/kube-mt-authz-2.service")
	assert.Contains(t, unit, "ExecStart=/opt/caas/bin/kube-mt-authz --config="+filepath.Join(s.Directory, "authz.yaml")+" --ops-listen=127.0.0.1:9654\n")
	assert.Contains(t, read(t, s, "systemd/kube-mt-admission-1.service"), "--ops-listen=127.0.0.1:9446\n")

	proxied := site(t, func(s *mtconfig.Site) {
		s.Proxy, s.Authz, s.Runs = &mtconfig.Proxy{Names: []string{"caas.example.org", "192.0.2.1"}}, map[string]any{"listMode": "project"}, mtconfig.StaticPods
	})
	install(t, proxied, mtconfig.Options{})
	proxy := document(t, proxied, "proxy.yaml")
	assert.Equal(t, "project", proxy["listMode"], "the proxy selects what kube-mt-authz demands")
	assert.Equal(t, map[string]any{"url": proxied.APIServer, "caFile": proxied.ClusterCA.CertFile}, proxy["server"])
	assert.FileExists(t, filepath.Join(proxied.Directory, "proxy.crt"))
	assert.Contains(t, read(t, proxied, "static-pods/kube-mt-proxy-2.yaml"), "--ops-listen=127.0.0.1:9658")
	assert.Contains(t, read(t, proxied, "static-pods/kube-mt-proxy-2.yaml"), "policy.yaml")

	s = site(t, func(s *mtconfig.Site) { s.Runs, s.Tag, s.Replicas = mtconfig.StaticPods, "v1", 1 })
	install(t, s, mtconfig.Options{})
	pod := document(t, s, "static-pods/kube-mt-authn.yaml")
	encoded, err := yaml.Marshal(pod)
	require.NoError(t, err)
	assert.Contains(t, string(encoded), "image: ghcr.io/cloudveneto/kube-mt-authn:v1")
	assert.Contains(t, string(encoded), "path: "+s.Directory)
	assert.NotContains(t, document(t, s, "authn.yaml"), "reusePort", "one process shares its port with nobody")
}

// TestKeysAreKept proves that a key is not written over unless it is asked for.
func TestKeysAreKept(t *testing.T) {
	t.Parallel()
	s := site(t, nil)
	install(t, s, mtconfig.Options{})
	path := filepath.Join(s.Directory, "authz.crt")
	key := read(t, s, "authz.key")
	require.NoError(t, os.WriteFile(path, []byte(read(t, s, "authn.crt")), 0o600))
	_, err := mtconfig.Install(s, mtconfig.Options{})
	require.ErrorContains(t, err, "--renew")
	require.NoError(t, os.Remove(path))
	_, err = mtconfig.Install(s, mtconfig.Options{})
	require.ErrorContains(t, err, "--renew", "a key without its certificate")
	assert.Equal(t, key, read(t, s, "authz.key"))
	assert.NotEmpty(t, findings(t, s, time.Now())["authz.crt"])

	ca := read(t, s, "ca.crt")
	written := install(t, s, mtconfig.Options{Renew: true})
	assert.Contains(t, written, "authz.key")
	assert.NotEqual(t, key, read(t, s, "authz.key"))
	assert.Equal(t, ca, read(t, s, "ca.crt"), "the CA is good for longer")
	assert.Empty(t, findings(t, s, time.Now()))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := site(t, nil)
	assert.NotEmpty(t, findings(t, s, time.Now())["ca.crt"], "nothing is there")
	install(t, s, mtconfig.Options{})
	require.NoError(t, os.Remove(filepath.Join(s.Directory, "authn.kubeconfig")))
	require.NoError(t, os.WriteFile(filepath.Join(s.Directory, "policy.yaml"), []byte("trustedUsers: [me]\n"), 0o600))
	require.NoError(t, os.Chmod(filepath.Join(s.Directory, "authz.key"), 0o644))
	found := findings(t, s, time.Now())
	assert.Equal(t, "missing", found["authn.kubeconfig"])
	assert.Contains(t, found["policy.yaml"], "differs")
	assert.Contains(t, found["authz.key"], "others")
	assert.Len(t, found, 3)

	soon := findings(t, s, time.Now().Add(340*24*time.Hour))
	assert.Contains(t, soon["authn.crt"], "expires")
	assert.NotContains(t, soon, "ca.crt")
	late := time.Now().Add(366 * 24 * time.Hour)
	_, err := mtconfig.Install(s, mtconfig.Options{Now: late})
	require.ErrorContains(t, err, "expired")
	install(t, s, mtconfig.Options{Now: late, Renew: true})
	assert.NotContains(t, findings(t, s, late), "authn.crt")

	other := s
	other.ClusterCA = clusterCA(t)
	assert.NotEmpty(t, findings(t, other, time.Now())["authz-reader.crt"], "another cluster's CA signed it")
}

// TestUmask is not parallel: a umask is the whole process'.
func TestUmask(t *testing.T) {
	s := site(t, nil)
	before := syscall.Umask(0o077)
	_, err := mtconfig.Install(s, mtconfig.Options{})
	syscall.Umask(before)
	require.NoError(t, err)
	for name, want := range map[string]os.FileMode{
		"": 0o755, "manifests": 0o755, "ca.crt": 0o644, "authz.yaml": 0o644, "authz.key": 0o600, "authn.kubeconfig": 0o600,
	} {
		info, err := os.Stat(filepath.Join(s.Directory, name))
		require.NoError(t, err)
		assert.Equal(t, want, info.Mode().Perm(), "%s: the webhooks run as another user", name)
	}
}

// TestAccessIsRepaired: a file with the right content is not right when the wrong people may read it, or the right cannot.
func TestAccessIsRepaired(t *testing.T) {
	t.Parallel()
	s := site(t, nil)
	owned := os.Geteuid() == 0
	if owned {
		s.Owner = "12345"
	}
	install(t, s, mtconfig.Options{})
	require.Empty(t, findings(t, s, time.Now()))
	wrong := map[string]os.FileMode{
		"authz.key": 0o644, "ca.key": 0o640, "authn.crt": 0o600, "authz.yaml": 0o600, "authn.kubeconfig": 0o666, "authn.yaml": 0o604,
	}
	right := map[string]os.FileMode{}
	for name, mode := range wrong {
		info, err := os.Stat(filepath.Join(s.Directory, name))
		require.NoError(t, err)
		right[name] = info.Mode().Perm()
		require.NoError(t, os.Chmod(filepath.Join(s.Directory, name), mode))
	}
	if owned {
		require.NoError(t, os.Chown(filepath.Join(s.Directory, "authz.kubeconfig"), 0, 0))
		wrong["authz.kubeconfig"], right["authz.kubeconfig"] = 0, 0o600
	}
	found := findings(t, s, time.Now())
	assert.Len(t, found, len(wrong))
	for name := range wrong {
		assert.Contains(t, found, name)
	}
	assert.Contains(t, found["ca.key"], "its mode is 640, not 600: others than its owner may read it")
	if owned {
		assert.Equal(t, "it belongs to 0:0, not to 12345:12345", found["authz.kubeconfig"])
	}

	key := read(t, s, "authz.key")
	repaired := install(t, s, mtconfig.Options{})
	assert.ElementsMatch(t, slices.Collect(maps.Keys(wrong)), repaired)
	assert.Equal(t, key, read(t, s, "authz.key"), "the key is the one that there was")
	for name, mode := range right {
		info, err := os.Stat(filepath.Join(s.Directory, name))
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm(), name)
	}
	assert.Empty(t, findings(t, s, time.Now()))
	assert.Empty(t, install(t, s, mtconfig.Options{}))
}
