// SPDX-License-Identifier: Apache-2.0

package kubeconfig_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/multitenancy/login/kubeconfig"
)

const mine = "cloudveneto-cms-zangrand@infn.it"

func login(token string) kubeconfig.Change {
	return kubeconfig.Change{
		Clusters: []kubeconfig.Cluster{{Name: "cloudveneto", Server: "https://caas.example.org:8443", CA: []byte("PEM\n")}},
		Users: []kubeconfig.User{{Name: mine, Token: token, Mark: kubeconfig.Mark{
			Mode: "token", User: "zangrand@infn.it", Project: "CMS", Expires: "2026-11-21T08:00:00Z",
		}}},
		Contexts: []kubeconfig.Context{{Name: "cloudveneto-cms", Cluster: "cloudveneto", User: mine, Namespace: "cms"}},
		Current:  "cloudveneto-cms",
	}
}

func store(t *testing.T, text string) kubeconfig.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if text != "" {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return kubeconfig.Store{Paths: []string{path}, Now: func() time.Time { return time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC) }}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(data)
}

// usable makes sure that kubectl's own library reads the file and finds the login in it.
func usable(t *testing.T, path, token string) {
	t.Helper()
	config, err := clientcmd.LoadFromFile(path)
	require.NoError(t, err)
	assert.Equal(t, "cloudveneto-cms", config.CurrentContext)
	at := config.Contexts["cloudveneto-cms"]
	require.NotNil(t, at)
	assert.Equal(t, "cms", at.Namespace)
	require.Contains(t, config.AuthInfos, at.AuthInfo)
	assert.Equal(t, token, config.AuthInfos[at.AuthInfo].Token)
	require.Contains(t, config.Clusters, at.Cluster)
	assert.Equal(t, "https://caas.example.org:8443", config.Clusters[at.Cluster].Server)
	assert.Equal(t, "PEM\n", string(config.Clusters[at.Cluster].CertificateAuthorityData))
	assert.Contains(t, config.AuthInfos[at.AuthInfo].Extensions, kubeconfig.Extension)
}

func TestNewFile(t *testing.T) {
	t.Parallel()
	files := store(t, "")
	files.Paths[0] = filepath.Join(filepath.Dir(files.Paths[0]), "home", ".kube", "config")
	result, err := files.Apply(t.Context(), login("first"))
	require.NoError(t, err)
	assert.Equal(t, files.Paths, result.Written)
	assert.Empty(t, result.Backups)
	usable(t, files.Paths[0], "first")
	info, err := os.Stat(files.Paths[0])
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	entries, err := os.ReadDir(filepath.Dir(files.Paths[0]))
	require.NoError(t, err)
	assert.Len(t, entries, 1, "no lock and nothing half done is left")
}

const foreign = `# my clusters
apiVersion: v1
kind: Config   # as always
preferences: {colors: true}
future-field:
    of: [kubectl]

clusters:
# the first
- cluster:
    server: "https://one.example.org"
    proxy-url:   http://proxy   # odd spacing
  name: one
# the end of the clusters

contexts:
  - name: one
    context: {cluster: one, user: 'me'}
  # two more below

  - context:
      cluster: one
      user: me
      unknown: |
        # this is text
        and this

    name: other
users:
- name: me
  user:
    username: >-
      QUJD
      REVG
# after the last user
current-context: one # for now
`

func TestForeignBytesStay(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"as people write it": foreign,
		"CRLF":               strings.ReplaceAll(foreign, "\n", "\r\n"),
		"no last newline":    strings.TrimSuffix(foreign, " # for now\n"),
		"marked document":    "---\n" + foreign + "...\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := store(t, text)
			result, err := files.Apply(t.Context(), login("first"))
			require.NoError(t, err)
			assert.Empty(t, result.Backups, "it could be spliced in")
			got := read(t, files.Paths[0])
			usable(t, files.Paths[0], "first")
			rest := got
			for line := range strings.SplitSeq(text, "\n") {
				if strings.HasPrefix(line, "current-context") {
					line, _, _ = strings.Cut(line, ":")
				}
				_, after, found := strings.Cut(rest, line)
				require.True(t, found, "%q is still there, in its place, in\n%s", line, got)
				rest = after
			}

			// A second login changes nothing but the token.
			_, err = files.Apply(t.Context(), login("second"))
			require.NoError(t, err)
			assert.Equal(t, strings.Replace(got, "token: first", "token: second", 1), read(t, files.Paths[0]))
			usable(t, files.Paths[0], "second")

			// And taking everything out leaves the file as it was, but for the context in use.
			_, err = files.Apply(t.Context(), kubeconfig.Change{Remove: kubeconfig.Names{
				Clusters: []string{"cloudveneto"}, Users: []string{mine}, Contexts: []string{"cloudveneto-cms"},
			}, Current: "one"})
			require.NoError(t, err)
			want := text
			if strings.HasSuffix(want, "one") { // a last line gets its end
				want += "\n"
			}
			assert.Equal(t, want, read(t, files.Paths[0]))
		})
	}
}

func TestStyles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		anew bool
	}{
		"comments only":   {"# nothing yet\n", false},
		"kubectl's empty": {"apiVersion: v1\nclusters: null\ncontexts: null\ncurrent-context: \"\"\nkind: Config\npreferences: {}\nusers: null\n", false},
		"empty lists":     {"apiVersion: v1\nkind: Config\nclusters: [] # none\ncontexts: []\nusers: []\n", false},
		"bare keys":       {"clusters:\nusers:\ncontexts:\ncurrent-context:\n", false},
		"JSON":            {`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"a","cluster":{"server":"https://a"}}],"users":[],"contexts":[]}`, true},
		"flow list":       {"clusters: [{name: a, cluster: {server: https://a}}]\nusers:\n- {name: b, user: {token: x}}\n", true},
		"quoted keys":     {"\"clusters\":\n- \"name\": \"a\"\n  \"cluster\": {\"server\": \"https://a\"}\n\"current-context\": \"a\"\n", false},
		"anchors":         {"clusters:\n- &a\n  name: a\n  cluster: &b {server: https://a}\n- {name: c, cluster: *b}\n", false},
		"indented":        {"  clusters:\n    - name: a\n      cluster: {server: https://a}\n  users: []\n", false},
		"dash alone":      {"clusters:\n-\n  name: a\n  cluster: {server: https://a}\nusers: []\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := store(t, test.text)
			result, err := files.Apply(t.Context(), login("first"))
			require.NoError(t, err)
			assert.Equal(t, test.anew, len(result.Backups) == 1, "%v", result.Backups)
			for _, backup := range result.Backups {
				assert.Equal(t, test.text, read(t, backup))
			}
			usable(t, files.Paths[0], "first")
			if strings.Contains(test.text, "https://a") {
				config, err := clientcmd.LoadFromFile(files.Paths[0])
				require.NoError(t, err)
				assert.Equal(t, "https://a", config.Clusters["a"].Server)
			}
		})
	}
}

func TestForeignEntriesOfTheSameName(t *testing.T) {
	t.Parallel()
	const text = "clusters:\n- name: cloudveneto # mine\n  cluster:\n    server: https://another\n    tls-server-name: x\n- name: keep\n  cluster: {server: https://keep}\n"
	files := store(t, text)
	_, err := files.Apply(t.Context(), login("first"))
	require.True(t, kubeconfig.Is(err, kubeconfig.Conflict), "%v", err)
	assert.Contains(t, err.Error(), `has an entry "cloudveneto" in clusters that kubectl-openstack has not made; -force overwrites it`)
	assert.Equal(t, text, read(t, files.Paths[0]))
	require.True(t, kubeconfig.Is(files.Check(login("first")), kubeconfig.Conflict))

	forced := login("first")
	forced.Force = true
	result, err := files.Apply(t.Context(), forced)
	require.NoError(t, err)
	assert.Equal(t, []string{files.Paths[0] + ".bak-20261121-070000"}, result.Backups)
	assert.Equal(t, text, read(t, result.Backups[0]))
	info, err := os.Stat(result.Backups[0])
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	usable(t, files.Paths[0], "first")
	got := read(t, files.Paths[0])
	assert.Contains(t, got, "- name: keep\n  cluster: {server: https://keep}\n")
	assert.NotContains(t, got, "tls-server-name")
	// From now on it is this program's.
	result, err = files.Apply(t.Context(), login("second"))
	require.NoError(t, err)
	assert.Empty(t, result.Backups)
	// What others have made is not removed.
	before := read(t, files.Paths[0])
	_, err = files.Apply(t.Context(), kubeconfig.Change{Remove: kubeconfig.Names{Clusters: []string{"keep"}}})
	require.NoError(t, err)
	assert.Equal(t, before, read(t, files.Paths[0]))
}

func TestWhatUsersAddToOwnEntriesStays(t *testing.T) {
	t.Parallel()
	files := store(t, "")
	_, err := files.Apply(t.Context(), login("first"))
	require.NoError(t, err)
	text := strings.Replace(read(t, files.Paths[0]), "server: https://caas.example.org:8443",
		"proxy-url: http://proxy # of the site\n      server: https://caas.example.org:8443", 1)
	require.NoError(t, os.WriteFile(files.Paths[0], []byte(text), 0o600))
	exec := login("")
	exec.Users[0].Exec = &kubeconfig.Exec{Command: "kubectl-openstack", Args: []string{"get-token", "-credential=" + mine}}
	_, err = files.Apply(t.Context(), exec)
	require.NoError(t, err)
	got := read(t, files.Paths[0])
	assert.Contains(t, got, "proxy-url: http://proxy # of the site\n")
	assert.NotContains(t, got, "first", "the token is gone")
	config, err := clientcmd.LoadFromFile(files.Paths[0])
	require.NoError(t, err)
	plugin := config.AuthInfos[mine].Exec
	require.NotNil(t, plugin)
	assert.Equal(t, "client.authentication.k8s.io/v1", plugin.APIVersion)
	assert.Equal(t, []string{"get-token", "-credential=" + mine}, plugin.Args)
	assert.True(t, plugin.ProvideClusterInfo)
	require.NoError(t, clientcmd.Validate(*config))
}

func TestBadFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		want kubeconfig.Kind
		says string
	}{
		"no YAML":           {"clusters: [\n", 0o600, kubeconfig.Corrupt, "is not YAML"},
		"cut off":           {foreign[:len(foreign)/2] + "\n  x: \"", 0o600, kubeconfig.Corrupt, "is not YAML"},
		"binary":            {"\x00\x01\x02", 0o600, kubeconfig.Corrupt, "is not YAML"},
		"a list":            {"- a\n", 0o600, kubeconfig.Corrupt, "is not a kubeconfig"},
		"a text":            {"hello\n", 0o600, kubeconfig.Corrupt, "is not a kubeconfig"},
		"another kind":      {"kind: Pod\n", 0o600, kubeconfig.Corrupt, `its kind is "Pod"`},
		"clusters a text":   {"clusters: x\n", 0o600, kubeconfig.Corrupt, "clusters is not a list"},
		"users of numbers":  {"users: [1]\n", 0o600, kubeconfig.Corrupt, "users has something"},
		"twice":             {"users: []\nusers: []\n", 0o600, kubeconfig.Corrupt, "already defined"},
		"several documents": {"kind: Config\n---\nkind: Config\n", 0o600, kubeconfig.Corrupt, "several documents"},
		"read-only":         {foreign, 0o400, kubeconfig.Unwritable, "is read-only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := store(t, test.text)
			require.NoError(t, os.Chmod(files.Paths[0], test.mode))
			_, err := files.Apply(t.Context(), login("first"))
			require.True(t, kubeconfig.Is(err, test.want), "%v", err)
			assert.Contains(t, err.Error(), test.says)
			assert.Contains(t, err.Error(), files.Paths[0])
			assert.Equal(t, test.text, read(t, files.Paths[0]))
			entries, err := os.ReadDir(filepath.Dir(files.Paths[0]))
			require.NoError(t, err)
			assert.Len(t, entries, 1)
		})
	}
}

func TestSeveralFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "missing"), filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	require.NoError(t, os.WriteFile(paths[1], []byte("# a\nkind: Config\n"), 0o644))
	inB := store(t, "")
	inB.Paths = paths[2:]
	_, err := inB.Apply(t.Context(), login("first"))
	require.NoError(t, err)
	files := kubeconfig.Store{Paths: paths}
	change := login("second")
	change.Users = append(change.Users, kubeconfig.User{Name: "cloudveneto-qst-x", Token: "other"})
	result, err := files.Apply(t.Context(), change)
	require.NoError(t, err)
	assert.Equal(t, paths[1:], result.Written, "known entries are changed where they are, new ones go to the first file")
	assert.Contains(t, read(t, paths[2]), "second")
	assert.Contains(t, read(t, paths[1]), "cloudveneto-qst-x")
	assert.True(t, strings.HasPrefix(read(t, paths[1]), "# a\nkind: Config\n"))
	assert.NoFileExists(t, paths[0])
	info, err := os.Stat(paths[1])
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "what others could read holds a token now")

	view, err := files.View()
	require.NoError(t, err)
	assert.Equal(t, "cloudveneto-cms", view.Current)
	user, found := view.User(mine)
	require.True(t, found)
	assert.Equal(t, "CMS", user.Mark.Project)
}

func TestLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, link, loop := filepath.Join(dir, "dotfiles", "kube"), filepath.Join(dir, "config"), filepath.Join(dir, "loop")
	require.NoError(t, os.Mkdir(filepath.Dir(target), 0o755))
	require.NoError(t, os.Symlink("dotfiles/kube", link))
	require.NoError(t, os.Symlink("loop", loop))
	files := kubeconfig.Store{Paths: []string{link}}
	for _, token := range []string{"first", "second"} {
		_, err := files.Apply(t.Context(), login(token))
		require.NoError(t, err)
		usable(t, target, token)
		points, err := os.Readlink(link)
		require.NoError(t, err)
		assert.Equal(t, "dotfiles/kube", points)
	}
	_, err := kubeconfig.Store{Paths: []string{loop}}.Apply(t.Context(), login("first"))
	assert.True(t, kubeconfig.Is(err, kubeconfig.Unwritable), "%v", err)
}

func TestPaths(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"/x"}, kubeconfig.Paths("/x", "/a:/b", "/home/me"))
	assert.Equal(t, []string{"/a", "/b"}, kubeconfig.Paths("", "/a::/b:/a", "/home/me"))
	assert.Equal(t, []string{"/home/me/.kube/config"}, kubeconfig.Paths("", "", "/home/me"))
}

// FuzzApply makes sure that whatever a file looks like, either nothing happens to it or kubectl
// finds both the login and what was there before.
func FuzzApply(f *testing.F) {
	f.Add(foreign)
	f.Add("clusters: []\nusers:\n")
	f.Add("{\"clusters\": [{\"name\": \"a\"}]}")
	f.Add("users:\n- name: \"x\"\n  user: &a {token: |\n  b}\n")
	f.Add("# c\n\n---\ncontexts:\n- &x {name: a}\n- <<: *x\n")
	f.Fuzz(func(t *testing.T, text string) {
		files := store(t, text)
		if text == "" {
			return
		}
		before, beforeErr := clientcmd.Load([]byte(text))
		change := login("first")
		change.Force = true
		if _, err := files.Apply(t.Context(), change); err != nil {
			assert.Equal(t, text, read(t, files.Paths[0]))
			return
		}
		if beforeErr != nil {
			return
		}
		after, err := clientcmd.LoadFromFile(files.Paths[0])
		require.NoError(t, err)
		assert.Equal(t, "first", after.AuthInfos[mine].Token)
		for name, user := range before.AuthInfos {
			if name != mine {
				got := after.AuthInfos[name]
				require.NotNil(t, got, name)
				assert.Equal(t, user.Token, got.Token)
			}
		}
		for name := range before.Clusters {
			assert.Contains(t, after.Clusters, name, fmt.Sprint(after.Clusters))
		}
	})
}
