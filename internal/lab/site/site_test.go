// SPDX-License-Identifier: Apache-2.0

package site_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab/site"
)

func TestNamespaceOf(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "cms", site.NamespaceOf("CMS"))
}

// TestPrograms: users cannot log in without theirs, which is worth knowing before anything is made.
func TestPrograms(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	_, err := site.New(t.Context(), site.Config{BinDir: bin})
	require.ErrorContains(t, err, "osnode-controller")
	require.NoError(t, os.WriteFile(filepath.Join(bin, site.Controller), nil, 0o600))
	_, err = site.New(t.Context(), site.Config{BinDir: bin})
	require.ErrorContains(t, err, "kubectl-openstack")
	require.ErrorContains(t, err, "run make build")
}

// TestUserData runs the site's script as a machine with a certain address would.
func TestUserData(t *testing.T) {
	t.Parallel()
	text, err := site.UserData()
	require.NoError(t, err)
	body, isConfig := strings.CutPrefix(text, "#cloud-config\n")
	require.True(t, isConfig)
	var config struct {
		Files []struct{ Path, Permissions, Content string } `json:"write_files"`
		Run   [][]string                                    `json:"runcmd"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(body), &config))
	require.Len(t, config.Files, 1)
	assert.Equal(t, [][]string{{config.Files[0].Path}}, config.Run)

	tests := map[string]struct{ address, want, refused string }{
		"in CMS":   {address: "10.88.16.37", want: `"subnet": "10.201.77.0/24"`},
		"in QST":   {address: "10.88.32.109", want: `"subnet": "10.201.249.0/24"`},
		"anywhere": {address: "192.0.2.1", refused: "no project's network"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			script := strings.ReplaceAll(config.Files[0].Content, "/etc/", dir+"/")
			ip := "#!/bin/sh\necho '2: eth0    inet " + tc.address + "/20 scope global eth0'\n"
			require.NoError(t, os.WriteFile(filepath.Join(dir, "ip"), []byte(ip), 0o700))
			command := exec.CommandContext(t.Context(), "sh", "-c", script)
			command.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			out, err := command.CombinedOutput()
			if tc.refused != "" {
				require.Error(t, err)
				assert.Contains(t, string(out), tc.refused)
				return
			}
			require.NoError(t, err, string(out))
			written, err := os.ReadFile(filepath.Join(dir, "cni", "net.d", "10-lab.conflist"))
			require.NoError(t, err)
			assert.Contains(t, string(written), tc.want)
			assert.NoError(t, yaml.Unmarshal(written, &map[string]any{}), "it is JSON")
		})
	}
}
