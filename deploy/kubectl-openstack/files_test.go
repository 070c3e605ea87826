// SPDX-License-Identifier: Apache-2.0

package kubectlopenstack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/cloudveneto/caas/multitenancy/login"
	"github.com/cloudveneto/caas/multitenancy/login/clouds"
)

// runs is the program without a process.
func runs(t *testing.T, lookup func(string) (string, bool), args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	app := login.App{
		Out: &out, Err: &out, Version: "test",
		Environment: clouds.Environment{Lookup: lookup, Home: t.TempDir(), WorkDir: t.TempDir()},
	}
	err := app.Run(t.Context(), args)
	return out.String(), err
}

func nothing(string) (string, bool) { return "", false }

func TestManPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("kubectl-openstack.1")
	require.NoError(t, err)
	help, err := runs(t, nothing, "-help")
	require.NoError(t, err)
	_, list, _ := strings.Cut(help, "\nCommands:\n")
	commands := regexp.MustCompile(`(?m)^  ([a-z-]+) `).FindAllStringSubmatch(list, -1)
	require.Len(t, commands, 8)
	flags := regexp.MustCompile(`(?m)^  -([a-z-]+)`)
	for _, command := range commands {
		assert.Contains(t, string(page), ".It Cm "+command[1]+"\n")
		text, err := runs(t, nothing, command[1], "-help")
		require.NoError(t, err)
		for _, flag := range flags.FindAllStringSubmatch(text, -1) {
			assert.Regexp(t, `(?m)^\.It .*Fl `+flag[1]+`( |$)`, string(page))
		}
	}
}

// TestConfig makes sure that the program reads the file that sites are given.
func TestConfig(t *testing.T) {
	t.Parallel()
	path, err := filepath.Abs("config.yaml")
	require.NoError(t, err)
	_, err = runs(t, func(name string) (string, bool) {
		values := map[string]string{"KUBECTL_OPENSTACK_CONFIG": path}
		value, set := values[name]
		return value, set
	}, "status")
	require.NoError(t, err)
}

func TestKrewManifest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("krew.yaml")
	require.NoError(t, err)
	var manifest struct {
		Kind string
		Spec struct {
			ShortDescription string `yaml:"shortDescription"`
			Platforms        []struct {
				Selector struct {
					Labels map[string]string `yaml:"matchLabels"`
				}
				URI, SHA256, Bin string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &manifest))
	assert.Equal(t, "Plugin", manifest.Kind)
	assert.LessOrEqual(t, len(manifest.Spec.ShortDescription), 50, "krew wants it short")
	require.Len(t, manifest.Spec.Platforms, 4)
	for _, one := range manifest.Spec.Platforms {
		name := one.Selector.Labels["os"] + "-" + one.Selector.Labels["arch"]
		assert.Equal(t, "@DOWNLOAD@/@VERSION@/kubectl-openstack-"+name+".tar.gz", one.URI)
		assert.Equal(t, "@"+name+"@", one.SHA256)
		assert.Equal(t, "kubectl-openstack", one.Bin)
	}
}

func TestScriptsAreShell(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"package.sh", "kubectl_complete-openstack"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-n", name).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	help, err := runs(t, nothing, "-help")
	require.NoError(t, err)
	text, err := os.ReadFile("kubectl_complete-openstack")
	require.NoError(t, err)
	_, list, _ := strings.Cut(help, "\nCommands:\n")
	var commands []string
	for _, command := range regexp.MustCompile(`(?m)^  ([a-z-]+) `).FindAllStringSubmatch(list, -1) {
		commands = append(commands, command[1])
	}
	assert.Contains(t, string(text), `commands="`+strings.Join(commands, " ")+`"`)
}
