// SPDX-License-Identifier: Apache-2.0

//go:build integration

package bootstrap_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/nodeimage"
	"github.com/cloudveneto/caas/osnode/bootstrap"
)

type merged struct {
	Config struct {
		WriteFiles []configFile    `json:"write_files"`
		RunCmd     [][]string      `json:"runcmd"`
		GrowPart   map[string]any  `json:"growpart"`
		Packages   []string        `json:"packages"`
		Mounts     [][]string      `json:"mounts"`
		Other      json.RawMessage `json:"timezone"`
	}
	Scripts map[string]string
}

// merge is what the image's cloud-init makes of user data.
func merge(t *testing.T, data []byte) merged {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("running a program of the node image needs root")
	}
	built, err := nodeimage.Build(t.Context(), nodeimage.Config{Progress: progress(t)})
	require.NoError(t, err)
	script, err := os.ReadFile(filepath.Join("testdata", "merge.py"))
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), "/usr/bin/python3", "-B", "-c", string(script))
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: built.Root}
	command.Dir = "/"
	command.Stdin = bytes.NewReader(data)
	var problems bytes.Buffer
	command.Stderr = &problems
	output, err := command.Output()
	require.NoError(t, err, problems.String())
	var result merged
	require.NoError(t, json.Unmarshal(output, &result))
	return result
}

// progress says each step of a build once.
func progress(t *testing.T) func(string, time.Duration) {
	t.Helper()
	last := ""
	return func(step string, elapsed time.Duration) {
		if step != last {
			t.Logf("%6.1fs %s", elapsed.Seconds(), step)
		}
		last = step
	}
}

func TestCloudInitMerges(t *testing.T) {
	user := "Content-Type: multipart/mixed; boundary=\"b\"\nMIME-Version: 1.0\n\n--b\nContent-Type: text/cloud-config\n\n" +
		"#cloud-config\nruncmd:\n- [mine]\nwrite_files:\n- {path: /etc/mine, content: grüße}\npackages: [htop]\ntimezone: Europe/Rome\n" +
		"--b\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho grüße\n--b\nContent-Type: text/cloud-config\n\n" +
		"#cloud-config\nruncmd:\n- [later]\npackages: [less]\ntimezone: Europe/Paris\n--b--\n"
	data, err := bootstrap.UserData(full(t), bootstrap.Node{NodeID: "n-1", Token: token, UserData: user})
	require.NoError(t, err)
	result := merge(t, data)

	assert.Equal(t, [][]string{
		{"/usr/local/sbin/osn-data-disk", "ext4", "/dev/vdb"},
		{"site-command"},
		{"systemctl", "daemon-reload"},
		{"systemctl", "enable", "--now", "containerd", "kubelet"},
		{"systemctl", "enable", "--now", "kube-proxy"},
		{"mine"},
		{"later"},
	}, result.Config.RunCmd, "ours, then the site's, then the start, then the user's")
	assert.Equal(t, []string{"htop", "less"}, result.Config.Packages)
	assert.JSONEq(t, `"Europe/Rome"`, string(result.Config.Other), "what is there stays")
	assert.Equal(t, map[string]any{"mode": "auto", "devices": []any{"/"}}, result.Config.GrowPart)
	assert.Equal(t, [][]string{{"ephemeral0"}, {"swap"}}, result.Config.Mounts)

	ours, _ := platform(t, parse(t, data))
	require.Len(t, result.Config.WriteFiles, len(ours)+2)
	for _, file := range result.Config.WriteFiles[:len(ours)] {
		assert.Equal(t, ours[file.Path], file, "to the byte")
	}
	assert.Equal(t, "/etc/cni/net.d/10-site.conflist", result.Config.WriteFiles[len(ours)].Path)
	assert.Equal(t, "grüße", result.Config.WriteFiles[len(ours)+1].Content)
	assert.Equal(t, map[string]string{"user-02.sh": "#!/bin/sh\necho grüße\n"}, result.Scripts)
}

// TestCloudInitReadsAll gives the image's cloud-init each mode, and each kind of user part.
func TestCloudInitReadsAll(t *testing.T) {
	for _, mode := range []bootstrap.Mode{bootstrap.ModeKubelet, bootstrap.ModeKubeadm, bootstrap.ModeNone} {
		for _, user := range []string{"", "#!/bin/sh\ntrue\n", "#cloud-config\n", "#cloud-config\nusers: [default]\n", "#cloud-boothook\n#!/bin/sh\ntrue\n"} {
			config := settings(t)
			config.Mode = mode
			data, err := bootstrap.UserData(config, bootstrap.Node{NodeID: "n-1", Token: token, UserData: user})
			require.NoError(t, err)
			result := merge(t, data)
			ours, commands := platform(t, parse(t, data))
			assert.Len(t, result.Config.WriteFiles, len(ours), "%s %q", mode, user)
			assert.Len(t, result.Config.RunCmd, len(commands), "%s %q", mode, user)
		}
	}
}
