// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// storage gives the person volumes on her node, of a class of their own: what an administrator does where nothing
// provisions volumes.
func (p person) storage(t *testing.T, class string, count int) {
	t.Helper()
	for number := range count {
		name := class + "-" + strconv.Itoa(number)
		p.given(t, "volume.yaml", "NAME", name, "OWNER", p.id, "CLASS", class, "PATH", p.file("volumes/"+name), "NODE", aliceNode)
	}
}

func keepsState(t *testing.T, me person) {
	name := unique("life-statefulset")
	first, second := name+"-0", name+"-1"
	me.storage(t, name, 2)
	me.removesAtLast(t, "pvc", "data-"+first, "data-"+second)
	me.has(t, "statefulset.yaml", "NAME", name)
	assert.Contains(t, me.kubectl(t, "rollout", "status", "statefulset/"+name), "complete")
	assert.Equal(t, []string{aliceNode, aliceNode}, me.where(t, "app="+name, 2))
	ready, made := me.moment(t, first, `{.status.conditions[?(@.type=="Ready")].lastTransitionTime}`), me.moment(t, second, "{.metadata.creationTimestamp}")
	assert.False(t, made.Before(ready), "the second begins when the first is ready")
	for _, pod := range []string{first, second} {
		assert.Equal(t, "Bound", me.kubectl(t, "get", "pvc", "data-"+pod, "-o", "jsonpath={.status.phase}"))
		assert.Contains(t, me.kubectl(t, "get", "pvc", "data-"+pod, "-o", "jsonpath={.spec.volumeName}"), name+"-")
	}
	assert.ElementsMatch(t, []string{"persistentvolume/" + name + "-0", "persistentvolume/" + name + "-1"},
		mine(me.lists(t, "get", "pv", "-o", "name"), "persistentvolume/"+name), "she sees her volumes")
	// Each is reached by the name that the headless Service gives it.
	assert.Equal(t, first+" began\n", me.page(t, second, first+"."+name+":8080"))
	assert.Equal(t, second+" began\n", me.page(t, first, second+"."+name+"."+cms+".svc.cluster.local:8080"))

	uid := me.kubectl(t, "get", "pod", first, "-o", "jsonpath={.metadata.uid}")
	me.kubectl(t, "delete", "pod", first)
	eventually(t, "there is another of that name", func() bool {
		out, err := me.tries(t, "get", "pod", first, "-o", "jsonpath={.metadata.uid}")
		return err == nil && out != uid
	})
	me.kubectl(t, "wait", "--for=condition=ready", "--timeout=80s", "pod/"+first)
	assert.Equal(t, first+" began\n"+first+" began\n", me.kubectl(t, "exec", first, "--", "cat", "/data/index.html"), "it has its volume again")
	me.kubectl(t, "scale", "statefulset/"+name, "--replicas=1")
	me.says(t, "pod/"+first, "get", "pods", "-l", "app="+name, "-o", "name")
}

// moment is when something happened to a pod.
func (p person) moment(t *testing.T, pod, path string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, p.kubectl(t, "get", "pod", pod, "-o", "jsonpath="+path))
	require.NoError(t, err)
	return at
}

func keepsData(t *testing.T, me person) {
	name := unique("life-claim")
	me.storage(t, name, 1)
	me.has(t, "claim.yaml", "NAME", name)
	me.says(t, "Bound", "get", "pvc", name, "-o", "jsonpath={.status.phase}")
	write := "echo written by $(hostname) > /data/text && sync"
	file := me.has(t, "with-claim.yaml", "NAME", name, "POD", name+"-writer", "COMMAND", write)
	me.kubectl(t, "wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=80s", "pod/"+name+"-writer")
	me.kubectl(t, "delete", "-f", file)
	me.has(t, "with-claim.yaml", "NAME", name, "POD", name+"-reader", "COMMAND", "cat /data/text")
	me.kubectl(t, "wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=80s", "pod/"+name+"-reader")
	assert.Equal(t, "written by "+name+"-writer\n", me.kubectl(t, "logs", name+"-reader"))
	assert.Contains(t, me.kubectl(t, "describe", "pvc", name), name+"-reader", "it is said who uses it")
}
