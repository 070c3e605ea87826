// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"
)

// person is somebody who talks to the API server, directly or through the proxy.
type person struct {
	*world

	name, id, token string
	// project is the id of the one that the login is for, namespace where that is.
	project, namespace string
	server             string
	client             *http.Client
	// trusted marks who may read what is Bob's.
	trusted bool
}

// proxied is the same person who comes through the proxy.
func (p person) proxied() person {
	p.server = p.front
	return p
}

// own is the selector of what is the person's, as it is in URLs.
func (p person) own() string { return url.QueryEscape(ownerKey + "=" + p.id) }

// url finds what paths mean: absolute ones themselves, and GROUP/VERSION/RESOURCE… is in the person's namespace.
func (p person) url(path string) string {
	switch {
	case strings.HasPrefix(path, "/"):
		return p.server + path
	case strings.HasPrefix(path, "v1/"):
		return p.server + "/api/v1/namespaces/" + p.namespace + "/" + strings.TrimPrefix(path, "v1/")
	default:
		parts := strings.SplitN(path, "/", 3)
		return p.server + "/apis/" + parts[0] + "/" + parts[1] + "/namespaces/" + p.namespace + "/" + parts[2]
	}
}

// answer is what one is told.
type answer struct {
	code   int
	header http.Header
	body   []byte
	// status is the answer if it is one, object otherwise, if it is JSON.
	status metav1.Status
	object *unstructured.Unstructured
}

// items are those of a list.
func (a answer) items(tb testing.TB) []unstructured.Unstructured {
	tb.Helper()
	list, err := a.object.ToList()
	require.NoError(tb, err, "%s", a.body)
	return list.Items
}

func (a answer) names(tb testing.TB) []string {
	tb.Helper()
	var names []string
	for _, item := range a.items(tb) {
		names = append(names, item.GetName())
	}
	return names
}

// do makes a request. The body is YAML; headers are names and values. Whatever comes back must not have Bob's marker in it,
// unless it is Bob who asked.
func (p person) do(tb testing.TB, method, path, body string, headers ...string) answer {
	tb.Helper()
	got, err := p.try(tb.Context(), method, path, body, headers...)
	require.NoError(tb, err, "%s %s", method, path)
	p.keepsSecrets(tb, method+" "+path, got.body)
	return got
}

// keepsSecrets fails when somebody sees what is Bob's.
func (p person) keepsSecrets(tb testing.TB, what string, text []byte) {
	tb.Helper()
	if p.trusted || p.id == p.bob.id || p.marker == "" {
		return
	}
	if p.tells(text) {
		assert.Fail(tb, "LEAK", "%s saw what is Bob's: %s", p.name, what)
	}
}

// tells finds Bob's marker in a text.
func (w *world) tells(text []byte) bool {
	return bytes.Contains(text, []byte(w.marker)) || bytes.Contains(text, []byte(base64.StdEncoding.EncodeToString([]byte(w.marker))))
}

func (p person) try(ctx context.Context, method, path, body string, headers ...string) (answer, error) {
	content, err := yaml.YAMLToJSON([]byte(body))
	if err != nil {
		return answer{}, err
	}
	if body == "" {
		content = nil
	}
	request, err := http.NewRequestWithContext(ctx, method, p.url(path), bytes.NewReader(content))
	if err != nil {
		return answer{}, err
	}
	if p.token != "" {
		request.Header.Set("Authorization", "Bearer "+p.token)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for at := 0; at+1 < len(headers); at += 2 {
		request.Header.Add(headers[at], headers[at+1])
		if headers[at] == "Content-Type" {
			request.Header.Set(headers[at], headers[at+1])
		}
	}
	response, err := p.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	got := answer{code: response.StatusCode, header: response.Header, object: &unstructured.Unstructured{}}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return got, nil
	}
	if got.body, err = io.ReadAll(response.Body); err != nil {
		return answer{}, err
	}
	_ = json.Unmarshal(got.body, &got.object.Object) // it may be of another format
	if got.object.GetKind() == "Status" {
		err = json.Unmarshal(got.body, &got.status)
	}
	return got, err
}

// creates makes an object that the person may make.
func (p person) creates(tb testing.TB, resource, object string) *unstructured.Unstructured {
	tb.Helper()
	got := p.do(tb, http.MethodPost, resource, object)
	require.Equal(tb, http.StatusCreated, got.code, "%s creates %s: %s", p.name, resource, got.body)
	return got.object
}

// gets reads what the person may read.
func (p person) gets(tb testing.TB, path string) answer {
	tb.Helper()
	got := p.do(tb, http.MethodGet, path, "")
	require.Equal(tb, http.StatusOK, got.code, "%s reads %s: %s", p.name, path, got.body)
	return got
}

// removes deletes what the person may delete.
func (p person) removes(tb testing.TB, path string) {
	tb.Helper()
	got := p.do(tb, http.MethodDelete, path, "")
	require.Contains(tb, []int{http.StatusOK, http.StatusAccepted}, got.code, "%s deletes %s: %s", p.name, path, got.body)
}

// denied makes a request that is refused, with these words.
func (p person) denied(tb testing.TB, words, method, path, body string, headers ...string) {
	tb.Helper()
	got := p.do(tb, method, path, body, headers...)
	assert.Equal(tb, http.StatusForbidden, got.code, "%s: %s %s: %s", p.name, method, path, got.body)
	assert.Contains(tb, got.status.Message, words, "%s %s", method, path)
}

// unique is a name that was never used.
func unique(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:6]) }

const (
	mergePatch     = "application/merge-patch+json"
	applyPatch     = "application/apply-patch+yaml"
	jsonPatch      = "application/json-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
)

// patches changes an object by a patch that merges.
func (p person) patches(tb testing.TB, path, patch string) answer {
	tb.Helper()
	return p.do(tb, http.MethodPatch, path, patch, "Content-Type", mergePatch)
}

// kubeconfig is a file with which kubectl is the person.
func (p person) kubeconfig(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "kubeconfig")
	config := clientcmdapi.NewConfig()
	ca := filepath.Join(p.lab.Dir(), "mt", "cluster-ca.crt")
	config.Clusters["caas"] = &clientcmdapi.Cluster{Server: p.server, CertificateAuthority: ca}
	config.AuthInfos["me"] = &clientcmdapi.AuthInfo{Token: p.token}
	config.Contexts["caas"] = &clientcmdapi.Context{Cluster: "caas", AuthInfo: "me", Namespace: p.namespace}
	config.CurrentContext = "caas"
	require.NoError(tb, clientcmd.WriteToFile(*config, path))
	return path
}

// command is kubectl inside the lab, as the person.
func (p person) command(ctx context.Context, tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	args = append([]string{"--net=" + p.lab.NetNS(), p.lab.Kubectl(), "--kubeconfig=" + p.kubeconfig(tb), "--cache-dir=" + tb.TempDir()}, args...)
	command := exec.CommandContext(ctx, "nsenter", args...)
	command.Env = append(os.Environ(), "HOME="+tb.TempDir())
	command.Dir = filepath.Join(p.source, "examples", "tenancy")
	return command
}

// tries runs kubectl and returns all that it prints.
func (p person) tries(tb testing.TB, args ...string) (string, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	out, err := p.command(ctx, tb, args...).CombinedOutput()
	p.keepsSecrets(tb, "kubectl "+strings.Join(args, " "), out)
	return string(out), err
}

// kubectl runs kubectl, which has to succeed.
func (p person) kubectl(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := p.tries(tb, args...)
	require.NoError(tb, err, "%s: kubectl %v: %s", p.name, args, out)
	return out
}
