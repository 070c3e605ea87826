// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/login"
	"github.com/cloudveneto/caas/multitenancy/login/clouds"
	"github.com/cloudveneto/caas/multitenancy/login/device/devicetest"
)

// nobody is a terminal without anybody.
type nobody struct{}

func (nobody) Interactive() bool { return false }

func (nobody) Line(context.Context, string, bool) (string, error) {
	return "", errors.New("there is nobody")
}

// platform answers whoever comes with a JWT.
func platform(t *testing.T, answer map[string]any) (address string, ca []byte, seen *atomic.Value) {
	t.Helper()
	seen = &atomic.Value{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		seen.Store(token)
		if r.URL.Path != "/mt/v1/whoami" || strings.Count(token, ".") != 2 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), seen
}

// desk is somebody's home with the program.
type desk struct {
	home   string
	now    time.Time
	issuer string
	ca     []byte
	t      *testing.T
}

// Write is standard error: it is what the user reads, who then goes to the browser.
func (d *desk) Write(text []byte) (int, error) {
	if found := regexp.MustCompile(`enter the code (\S+)\n`).FindSubmatch(text); found != nil {
		devicetest.Browse(d.t, d.ca, d.issuer, string(found[1]), "allowed")
	}
	return len(text), nil
}

func (d *desk) run(args ...string) (string, error) {
	d.t.Helper()
	var out strings.Builder
	app := login.App{
		Out: &out, Err: d, Terminal: nobody{}, Executable: "kubectl-openstack", Host: "host",
		Environment: clouds.Environment{Lookup: func(string) (string, bool) { return "", false }, Home: d.home, WorkDir: d.home},
		Now:         func() time.Time { return d.now },
	}
	err := app.Run(d.t.Context(), args)
	return out.String(), err
}

func newDesk(t *testing.T, answer map[string]any) (*desk, *atomic.Value) {
	t.Helper()
	issuer, ca := devicetest.Start(t)
	server, serverCA, seen := platform(t, answer)
	d := &desk{home: t.TempDir(), now: time.Now(), issuer: issuer, ca: ca, t: t}
	config := filepath.Join(d.home, ".config", "kubectl-openstack")
	require.NoError(t, os.MkdirAll(config, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(config, "ca.crt"), serverCA, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(config, "issuer.crt"), ca, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(config, "config.yaml"), fmt.Appendf(nil,
		"server: %s\ncaFile: ca.crt\noidc: {issuer: %q, clientID: %s, caFile: issuer.crt}\nsecrets: file\n", server, issuer, devicetest.ClientID), 0o600))
	return d, seen
}

func token(t *testing.T, credential string) string {
	t.Helper()
	var got struct {
		Status struct{ Token string }
	}
	require.NoError(t, json.Unmarshal([]byte(credential), &got))
	return got.Status.Token
}

func TestOpenID(t *testing.T) {
	t.Parallel()
	d, seen := newDesk(t, map[string]any{
		"user": "iam:olga", "uid": "x#olga", "namespace": "cms", "project": map[string]string{"id": "1111", "name": "CMS"},
	})
	out, err := d.run("-oidc")
	require.NoError(t, err)
	assert.Equal(t, "kubectl configured correctly\n", out)
	text, err := os.ReadFile(filepath.Join(d.home, ".kube", "config"))
	require.NoError(t, err)
	for _, part := range []string{"current-context: cloudveneto-cms", "namespace: cms", "-credential=cloudveneto-cms-olga", "mode: oidc"} {
		assert.Contains(t, string(text), part)
	}
	assert.NotContains(t, string(text), seen.Load(), "the kubeconfig has no token")

	out, err = d.run("get-token", "-credential=cloudveneto-cms-olga")
	require.NoError(t, err)
	first := token(t, out)
	assert.Equal(t, seen.Load(), first)
	d.now = d.now.Add(24 * time.Hour)
	out, err = d.run("get-token", "-credential=cloudveneto-cms-olga")
	require.NoError(t, err)
	assert.NotEqual(t, first, token(t, out), "it was renewed without anybody")
	d.now = d.now.Add(24 * time.Hour)
	_, err = d.run("get-token", "-credential=cloudveneto-cms-olga")
	require.NoError(t, err, "also with the refresh token that came with the renewal")
	out, err = d.run("whoami")
	require.NoError(t, err)
	assert.Contains(t, out, "iam:olga")
	out, err = d.run("status")
	require.NoError(t, err)
	assert.Regexp(t, `\*cloudveneto-cms +CMS +olga +oidc +valid`, out)

	out, err = d.run("logout", "-purge")
	require.NoError(t, err)
	assert.Equal(t, "logged out of CMS\n", out)
	_, err = d.run("get-token", "-credential=cloudveneto-cms-olga")
	require.ErrorContains(t, err, "not logged in")
	left, err := filepath.Glob(filepath.Join(d.home, ".config", "kubectl-openstack", "credentials", "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestOpenIDProjects(t *testing.T) {
	t.Parallel()
	// Somebody in several projects is told so by the platform, which names none.
	d, _ := newDesk(t, map[string]any{"user": "iam:olga", "uid": "x#olga", "projects": []map[string]string{{"id": "1111", "name": "CMS"}, {"id": "2222", "name": "QST"}}})
	_, err := d.run("-oidc")
	require.ErrorContains(t, err, "which project? give it with -project; yours are CMS, QST")
	_, err = d.run("-oidc", "-project=ATLAS")
	require.ErrorContains(t, err, "you are in no project \"ATLAS\"")
	assert.NoFileExists(t, filepath.Join(d.home, ".kube", "config"))
	_, err = d.run("-oidc", "-project=qst")
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(d.home, ".kube", "config"))
	require.NoError(t, err)
	assert.Contains(t, string(text), "namespace: qst")

	d, _ = newDesk(t, map[string]any{"user": "iam:olga", "namespace": "cms", "project": map[string]string{"id": "1111", "name": "CMS"}})
	_, err = d.run("-oidc", "-project=QST")
	require.ErrorContains(t, err, "you are in the project CMS, not in QST")
	_, err = d.run("-oidc", "-project=QST,CMS")
	require.ErrorContains(t, err, "at most one -project")
	_, err = d.run("-oidc", "-issuer=https://127.0.0.1:1", "-timeout=2s")
	require.ErrorContains(t, err, "refuses connections")
}
