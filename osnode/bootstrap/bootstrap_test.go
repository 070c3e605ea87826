// SPDX-License-Identifier: Apache-2.0

package bootstrap_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/osnode/bootstrap"
)

var update = flag.Bool("update", false, "write the golden files")

const token = "abcdef.0123456789abcdef"

// goldenCA is a certificate that does not change.
func goldenCA(tb testing.TB) string {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "ca.crt"))
	require.NoError(tb, err)
	return string(data)
}

func settings(tb testing.TB) bootstrap.Settings {
	tb.Helper()
	return bootstrap.Settings{
		Server: "https://10.0.0.1:6443", CAData: goldenCA(tb), ClusterDNS: []string{"10.96.0.10"},
	}
}

// full uses everything.
func full(tb testing.TB) bootstrap.Settings {
	tb.Helper()
	s := settings(tb)
	s.ClusterDomain = "caas.example.org"
	s.SystemReserved = map[string]string{"memory": "500Mi", "cpu": "100m"}
	s.Kubelet = map[string]any{"maxPods": 60, "evictionHard": map[string]any{"memory.available": "200Mi"}}
	s.KubeProxy = map[string]any{"mode": "nftables"}
	s.Mirrors = map[string]bootstrap.Mirror{
		"_default":            {Server: "http://10.0.0.2:5000", Hosts: []string{"http://10.0.0.2:5000"}},
		"registry.local:5000": {Hosts: []string{"https://mirror.example.org/v2/x"}, CAData: s.CAData},
	}
	s.DataDisk = bootstrap.DataDisk{Policy: bootstrap.DataDevice, Device: "/dev/vdb", Filesystem: "ext4"}
	s.BlockMetadata = true
	s.ExtraUserData = "#cloud-config\nwrite_files:\n- {path: /etc/cni/net.d/10-site.conflist, content: '{}'}\nruncmd:\n- [site-command]\n"
	return s
}

// received is a part as cloud-init sees it.
type received struct {
	contentType, filename, mergeType, content string
}

func parse(tb testing.TB, data []byte) []received {
	tb.Helper()
	parsed, err := mail.ReadMessage(bytes.NewReader(data))
	require.NoError(tb, err)
	require.NotEmpty(tb, parsed.Header.Get("MIME-Version"), "cloud-init looks for it to know that this is a MIME message")
	mediaType, parameters, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	require.NoError(tb, err)
	require.Equal(tb, "multipart/mixed", mediaType)
	var parts []received
	for reader := multipart.NewReader(parsed.Body, parameters["boundary"]); ; {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return parts
		}
		require.NoError(tb, err)
		var body io.Reader = part
		if part.Header.Get("Content-Transfer-Encoding") == "base64" {
			body = base64.NewDecoder(base64.StdEncoding, part)
		}
		content, err := io.ReadAll(body)
		require.NoError(tb, err)
		mediaType, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		require.NoError(tb, err)
		parts = append(parts, received{mediaType, part.FileName(), part.Header.Get("Merge-Type"), string(content)})
	}
}

func names(parts []received) []string {
	var list []string
	for _, part := range parts {
		list = append(list, part.filename)
	}
	return list
}

type configFile struct{ Path, Permissions, Content string }

type cloudConfig struct {
	WriteFiles []configFile `json:"write_files"`
	RunCmd     [][]string   `json:"runcmd"`
	Mounts     [][]string   `json:"mounts"`
}

// platform are the files and the commands of the platform's parts.
func platform(tb testing.TB, parts []received) (files map[string]configFile, commands []string) {
	tb.Helper()
	files = map[string]configFile{}
	for _, part := range parts {
		if !strings.HasPrefix(part.filename, "platform-") {
			continue
		}
		var config cloudConfig
		require.NoError(tb, yaml.UnmarshalStrict([]byte(part.content), &struct {
			*cloudConfig
			GrowPart any  `json:"growpart"`
			Resize   bool `json:"resize_rootfs"`
		}{cloudConfig: &config}))
		for _, file := range config.WriteFiles {
			require.NotContains(tb, files, file.Path)
			files[file.Path] = file
		}
		for _, command := range config.RunCmd {
			commands = append(commands, strings.Join(command, " "))
		}
	}
	return files, commands
}

func TestGolden(t *testing.T) {
	t.Parallel()
	kubeadm, none := settings(t), settings(t)
	kubeadm.Mode, none.Mode = bootstrap.ModeKubeadm, bootstrap.ModeNone
	for name, tc := range map[string]struct {
		settings bootstrap.Settings
		user     string
	}{
		"minimal": {settings(t), ""},
		"full":    {full(t), "#!/bin/sh\necho my own\n"},
		"kubeadm": {kubeadm, "#cloud-config\npackages: [htop]\n"},
		"none":    {none, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, tc.settings.Validate())
			node := bootstrap.Node{NodeID: "osn-01-1696949601872", Token: token, UserData: tc.user}
			data, err := bootstrap.UserData(tc.settings, node)
			require.NoError(t, err)
			again, err := bootstrap.UserData(tc.settings, node)
			require.NoError(t, err)
			assert.Equal(t, data, again, "the same bytes each time")
			path := filepath.Join("testdata", name+".txt")
			if *update {
				require.NoError(t, os.WriteFile(path, data, 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, string(want), string(data), "run the test with -update if the change is wanted")
		})
	}
}

func TestPlatform(t *testing.T) {
	t.Parallel()
	data, err := bootstrap.UserData(full(t), bootstrap.Node{NodeID: "n-1", Token: token, UserData: "#!/bin/sh\ntrue\n"})
	require.NoError(t, err)
	parts := parse(t, data)
	assert.Equal(t, []string{"platform-01.cfg", "site-01.cfg", "platform-02.cfg", "user-01.sh"}, names(parts))
	for _, part := range parts[:3] {
		assert.Equal(t, "list(append)+dict(no_replace,recurse_list)+str()", part.mergeType, part.filename)
	}
	assert.Greater(t, "site-01.sh", "runcmd", "scripts are sorted after the commands")
	assert.Equal(t, 1, bytes.Count(data, []byte(token)))

	files, commands := platform(t, parts)
	assert.Equal(t, []string{
		"/usr/local/sbin/osn-data-disk ext4 /dev/vdb", "systemctl daemon-reload",
		"systemctl enable --now containerd kubelet", "systemctl enable --now kube-proxy",
	}, commands)
	assert.Equal(t, "0600", files["/etc/kubernetes/bootstrap-kubelet.conf"].Permissions)
	assert.Contains(t, files["/etc/kubernetes/bootstrap-kubelet.conf"].Content, token)
	assert.Equal(t, "KUBELET_EXTRA_ARGS=--hostname-override=n-1\n", files["/etc/kubernetes/kubelet.env"].Content)
	var kubelet map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(files["/etc/kubernetes/kubelet.yaml"].Content), &kubelet))
	assert.Equal(t, map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": "/etc/kubernetes/ca.crt"},
		},
		"authorization": map[string]any{"mode": "Webhook"},
		"registerNode":  true, "rotateCertificates": true, "serverTLSBootstrap": true,
		"clusterDNS": []any{"10.96.0.10"}, "clusterDomain": "caas.example.org",
		"systemReserved": map[string]any{"cpu": "100m", "memory": "500Mi"},
		"maxPods":        60.0, "evictionHard": map[string]any{"memory.available": "200Mi"},
	}, kubelet)
	assert.Contains(t, files["/etc/kubernetes/kube-proxy.yaml"].Content, "hostnameOverride: n-1")
	assert.Equal(t, "server = \"http://10.0.0.2:5000\"\n\n[host.\"http://10.0.0.2:5000\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
		files["/etc/containerd/certs.d/_default/hosts.toml"].Content)
	assert.Contains(t, files["/etc/containerd/certs.d/registry.local:5000/hosts.toml"].Content,
		`ca = "/etc/containerd/certs.d/registry.local:5000/ca.crt"`)
	assert.Contains(t, files["/etc/systemd/system/kubelet.service.d/10-block-metadata.conf"].Content, "nft -f")
	assert.Equal(t, "0755", files["/usr/local/sbin/osn-data-disk"].Permissions)
}

func TestUserParts(t *testing.T) {
	t.Parallel()
	encoded := base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\necho ünïcode\n"))
	for name, tc := range map[string]struct {
		text string
		want []received
	}{
		"nothing":        {"", nil},
		"blank":          {" \n\t\n", nil},
		"script":         {"#!/bin/sh\ntrue", []received{{"text/x-shellscript", "user-01.sh", "", "#!/bin/sh\ntrue\n"}}},
		"from Windows":   {"#!/bin/sh\r\ntrue\r\n", []received{{"text/x-shellscript", "user-01.sh", "", "#!/bin/sh\ntrue\n"}}},
		"cloud-config":   {"#cloud-config\npackages: [a]\n", []received{{"text/cloud-config", "user-01.cfg", "list(append)+dict(no_replace,recurse_list)+str()", "#cloud-config\npackages: [a]\n"}}},
		"only a comment": {"#cloud-config\n# nothing\n", nil},
		"boothook":       {"#cloud-boothook\ntrue\n", []received{{"text/cloud-boothook", "user-01.sh", "", "#cloud-boothook\ntrue\n"}}},
		"not ASCII":      {"#!/bin/sh\necho grüße 🙂\n", []received{{"text/x-shellscript", "user-01.sh", "", "#!/bin/sh\necho grüße 🙂\n"}}},
		"long line":      {"#!/bin/sh\n: " + strings.Repeat("x", 2000) + "\n", []received{{"text/x-shellscript", "user-01.sh", "", "#!/bin/sh\n: " + strings.Repeat("x", 2000) + "\n"}}},
		"message": {
			"Content-Type: multipart/mixed; boundary=\"b\"\r\nMIME-Version: 1.0\r\n\r\n--b\r\nContent-Type: text/cloud-config\r\n\r\n#cloud-config\r\nfoo: 1\r\n--b\r\n" +
				"Content-Type: text/x-shellscript\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded + "\r\n--b\r\n\r\n#!/bin/sh\r\nguessed\r\n--b--\r\n",
			[]received{
				{"text/cloud-config", "user-01.cfg", "list(append)+dict(no_replace,recurse_list)+str()", "#cloud-config\nfoo: 1\n"},
				{"text/x-shellscript", "user-02.sh", "", "#!/bin/sh\necho ünïcode\n"},
				{"text/x-shellscript", "user-03.sh", "", "#!/bin/sh\nguessed\n"},
			},
		},
		"quoted": {
			"MIME-Version: 1.0\nContent-Type: text/x-shellscript\nContent-Transfer-Encoding: quoted-printable\n\n#!/bin/sh\necho a=3Db\n",
			[]received{{"text/x-shellscript", "user-01.sh", "", "#!/bin/sh\necho a=b\n"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := bootstrap.UserData(settings(t), bootstrap.Node{NodeID: "n-1", Token: token, UserData: tc.text})
			require.NoError(t, err)
			parts := parse(t, data)
			require.GreaterOrEqual(t, len(parts), 2)
			assert.Equal(t, tc.want, append([]received(nil), parts[2:]...))
			require.NoError(t, bootstrap.CheckUserData(settings(t), tc.text))
		})
	}
}

func TestRefusedUserParts(t *testing.T) {
	t.Parallel()
	multi := func(header, content string) string {
		return "Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b\n" + header + "\n\n" + content + "\n--b--\n"
	}
	nested := "#!/bin/sh\n"
	for range 5 {
		nested = "Content-Type: message/rfc822\n\n" + nested
	}
	deeper := multi("Content-Type: text/x-shellscript", "#!/bin/sh")
	for i := range 4 {
		boundary := fmt.Sprintf("c%d", i)
		deeper = "Content-Type: multipart/mixed; boundary=" + boundary + "\n\n--" + boundary + "\n" + deeper + "\n--" + boundary + "--\n"
	}
	for name, tc := range map[string]struct{ text, want string }{
		"prose":          {"please install htop", "has to begin with"},
		"no interpreter": {multi("Content-Type: text/x-shellscript", "true"), "#!"},
		"include":        {"#include\nhttp://example.org/x\n", "cannot be checked"},
		"include once":   {"#include-once\nhttp://example.org/x\n", "cannot be checked"},
		"part handler":   {"#part-handler\n", "#part-handler"},
		"archive":        {"#cloud-config-archive\n- type: x\n", "MIME message"},
		"patch":          {"#cloud-config-jsonp\n[]\n", "change the platform's"},
		"template":       {"## template: jinja\n#cloud-config\n", "templates"},
		"include inside": {multi("Content-Type: text/x-include-url", "http://example.org"), "part 1: parts of the type text/x-include-url"},
		"guessed inside": {multi("Content-Type: text/plain", "#include\nhttp://example.org"), "part 1: #include"},
		"no YAML":        {"#cloud-config\na: [\n", "no YAML"},
		"a list":         {"#cloud-config\n- a\n", "no YAML with keys"},
		"merge how":      {"#cloud-config\nmerge_how: dict(replace)\nruncmd: [a]\n", "merge_how: how it is merged"},
		"merge header":   {multi("Content-Type: text/cloud-config\nX-Merge-Type: dict(replace)", "#cloud-config\n"), "X-Merge-Type"},
		"growpart":       {"#cloud-config\ngrowpart: {mode: off}\n", "growpart: this is set"},
		"commands":       {"#cloud-config\nruncmd: reboot\n", "runcmd: this has to be a list"},
		"files":          {"#cloud-config\nwrite_files: {path: /x}\n", "write_files: this has to be a list"},
		"file":           {"#cloud-config\nwrite_files: [{path: /etc//kubernetes/./kubelet.yaml, content: x}]\n", "/etc/kubernetes/kubelet.yaml is written by the platform"},
		"relative":       {"#cloud-config\nwrite_files: [{path: x}]\n", "no absolute path"},
		"binary":         {"#!/bin/sh\n\xff\xfe\n", "UTF-8"},
		"too long":       {"#!/bin/sh\n" + strings.Repeat("# comment\n", 1700), "at most 16384"},
		"no boundary":    {"Content-Type: multipart/mixed\n\nx", "boundary"},
		"no end":         {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\n#!/bin/sh\n", "part 1"},
		"encoding":       {multi("Content-Type: text/x-shellscript\nContent-Transfer-Encoding: uuencode", "x"), "uuencode"},
		"bad base64":     {multi("Content-Type: text/x-shellscript\nContent-Transfer-Encoding: base64", "!!"), "decode"},
		"deep":           {nested, "more than 3 deep"},
		"deep parts":     {deeper, "more than 3 deep"},
		"many":           {"Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\n#!/bin/sh\n", 40) + "--b--\n", "more than 32 parts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := bootstrap.UserData(settings(t), bootstrap.Node{NodeID: "n-1", Token: token, UserData: tc.text})
			var refused *bootstrap.UserPartError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, tc.want)
			assert.True(t, strings.HasPrefix(err.Error(), "userData: "))
			require.ErrorAs(t, bootstrap.CheckUserData(settings(t), tc.text), &refused)
		})
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	large := settings(t)
	large.ExtraUserData = "#!/bin/sh\n" + strings.Repeat("# a comment of the site\n", 1500)
	_, err := bootstrap.UserData(large, bootstrap.Node{NodeID: "n-1", Token: token})
	require.NoError(t, err, "the site alone fits")
	_, err = bootstrap.UserData(large, bootstrap.Node{NodeID: "n-1", Token: token, UserData: "#!/bin/sh\n" + strings.Repeat("# mine\n", 2000)})
	var tooLarge *bootstrap.TooLargeError
	require.ErrorAs(t, err, &tooLarge)
	assert.Greater(t, tooLarge.Size, bootstrap.MaxSize)
	require.ErrorContains(t, err, "make userData shorter")

	require.NoError(t, bootstrap.CheckSize(make([]byte, bootstrap.MaxSize)))
	require.Error(t, bootstrap.CheckSize(make([]byte, bootstrap.MaxSize+1)))
	assert.LessOrEqual(t, base64.StdEncoding.EncodedLen(bootstrap.MaxSize), 65535)
}

// TestCertificate makes the golden files' certificate when asked to.
func TestCertificate(t *testing.T) {
	path := filepath.Join("testdata", "ca.crt")
	if _, err := os.Stat(path); err != nil && *update {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	}
	assert.Contains(t, goldenCA(t), "BEGIN CERTIFICATE")
}

func FuzzUserData(f *testing.F) {
	for _, seed := range []string{
		"", "#!/bin/sh\n", "#cloud-config\nruncmd: [[a]]\n", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n#!x\n--b--\n",
		"#cloud-config\nmerge_how: x\n", "#cloud-config\n{a: é}\n", "Content-Type: message/rfc822\n\nContent-Type: text/plain\n\n#!x",
	} {
		f.Add(seed)
	}
	config := settings(f)
	f.Fuzz(func(t *testing.T, text string) {
		data, err := bootstrap.UserData(config, bootstrap.Node{NodeID: "n-1", Token: token, UserData: text})
		if err != nil {
			var refused *bootstrap.UserPartError
			require.ErrorAs(t, err, &refused)
			return
		}
		parts := parse(t, data)
		require.GreaterOrEqual(t, len(parts), 2)
		assert.Equal(t, []string{"platform-01.cfg", "platform-02.cfg"}, names(parts[:2]), "the platform's parts are as ever")
		for _, part := range parts[2:] {
			assert.True(t, strings.HasPrefix(part.filename, "user-"))
			assert.NotEmpty(t, strings.TrimSpace(part.content))
		}
		files, commands := platform(t, parts)
		assert.Contains(t, files, "/etc/kubernetes/kubelet.yaml")
		assert.Contains(t, commands, "systemctl enable --now containerd kubelet")
	})
}
