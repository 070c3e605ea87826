// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func sorted(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return all
}

// reachesInto goes into a pod in all ways that kubectl has.
func reachesInto(t *testing.T, me person) {
	name := unique("life-pod")
	me.has(t, "pod.yaml", "NAME", name)
	me.has(t, "service.yaml", "NAME", name)
	me.kubectl(t, "wait", "--for=condition=ready", "--timeout=80s", "pod/"+name)
	assert.Equal(t, "page of "+name+"\n", me.kubectl(t, "exec", name, "--", "cat", "/www/index.html"))
	t.Run("debug", func(t *testing.T) { debugs(t, me, name) })
	t.Run("cp", func(t *testing.T) { copies(t, me, name) })
	t.Run("port-forward", func(t *testing.T) {
		assert.Equal(t, "page of "+name+"\n", forwarded(t, me, "pod/"+name, "18090", "8080"))
		assert.Equal(t, "page of "+name+"\n", forwarded(t, me, "pod/"+name, "18091", "http"), "a port by its name")
		assert.Equal(t, "page of "+name+"\n", forwarded(t, me, "service/"+name, "18092", "80"))
	})
}

// debugs looks at a running pod from a container that is put into it, which sees the processes and files of the other.
func debugs(t *testing.T, me person, name string) {
	out := me.kubectl(t, "debug", name, "--image="+busybox, "--target=main", "--container=looks",
		"--", "sh", "-c", "cat /proc/1/cmdline | tr '\\000' ' '; cat /proc/1/root/www/index.html; sleep 1000")
	assert.NotContains(t, out, "orbidden")
	want := "httpd -f -p 8080 -h /www page of " + name
	me.says(t, want, "logs", name, "-c", "looks")
	// What a pod may not have, a container that is put into it may not have either.
	for profile, refusal := range map[string]string{
		"general": "capabilities.add: SYS_PTRACE is not allowed", "sysadmin": "securityContext.privileged is not allowed",
	} {
		out, err := me.tries(t, "debug", name, "--image="+busybox, "--target=main", "--profile="+profile, "--", "true")
		assert.Error(t, err, profile)
		assert.Contains(t, out, refusal, profile)
	}
	assert.Equal(t, "looks", me.kubectl(t, "get", "pod", name, "-o", "jsonpath={.spec.ephemeralContainers[*].name}"))
	assert.Equal(t, "main", me.kubectl(t, "get", "pod", name, "-o", "jsonpath={.spec.ephemeralContainers[0].targetContainerName}"))
	assert.Equal(t, "page of "+name+"\n", me.kubectl(t, "exec", name, "-c", "looks", "--", "wget", "-q", "-O", "-", "http://127.0.0.1:8080"))

	// A copy of the pod, with another command, is hers as well.
	another := name + "-copy"
	me.removesAtLast(t, "pod", another)
	me.kubectl(t, "debug", name, "--copy-to="+another, "--container=main", "--", "sh", "-c", "echo I am the copy; sleep 1000")
	me.says(t, "I am the copy", "logs", another, "-c", "main")
	assert.Equal(t, me.id, me.kubectl(t, "get", "pod", another, "-o", `jsonpath={.metadata.labels.osn\.infn\.it/userid}`))
}

func copies(t *testing.T, me person, name string) {
	content := make([]byte, 3<<20)
	_, _ = rand.Read(content)
	sum := sha256.Sum256(content)
	near, back := filepath.Join(t.TempDir(), "near"), filepath.Join(t.TempDir(), "back")
	require.NoError(t, os.WriteFile(near, content, 0o600))
	me.kubectl(t, "cp", near, name+":/tmp-of-"+name, "-c", "main")
	assert.Equal(t, hex.EncodeToString(sum[:]), strings.Fields(me.kubectl(t, "exec", name, "-c", "main", "--", "sha256sum", "/tmp-of-"+name))[0])
	me.kubectl(t, "cp", name+":/tmp-of-"+name, back, "-c", "main")
	got, err := os.ReadFile(back)
	require.NoError(t, err)
	assert.Equal(t, sum, sha256.Sum256(got), "the file is what it was")
}
