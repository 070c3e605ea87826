// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pages are those of all pods of a Deployment, as each shows it itself.
func (p person) pages(t *testing.T, name string) []string {
	t.Helper()
	var all []string
	for _, pod := range p.running(t, name) {
		all = append(all, strings.TrimSpace(p.kubectl(t, "exec", pod, "--", "cat", "/www/index.html")))
	}
	return all
}

// running are the pods of an application that are not about to go.
func (p person) running(t *testing.T, name string) []string {
	t.Helper()
	return p.lists(t, "get", "pods", "-l", "app="+name, "--field-selector=status.phase=Running", "-o",
		`go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}`)
}

func deploys(t *testing.T, me person) {
	name := unique("life-deployment")
	file := me.has(t, "deployment.yaml", "NAME", name)
	target := "deployment/" + name
	rolled := func() {
		t.Helper()
		assert.Contains(t, me.kubectl(t, "rollout", "status", target), "successfully rolled out")
	}
	rolled()
	assert.Equal(t, []string{aliceNode, aliceNode}, me.where(t, "app="+name, 2))
	assert.Equal(t, []string{"one of " + name, "one of " + name}, me.pages(t, name))
	assert.Empty(t, me.kubectl(t, "diff", "-f", file), "what is applied is what is there")

	me.kubectl(t, "set", "env", target, "VERSION=two")
	rolled()
	assert.Equal(t, []string{"two of " + name, "two of " + name}, me.pages(t, name))
	// The same image by another name: there is no newer one in the lab, and the Deployment does not know.
	me.kubectl(t, "set", "image", target, "main=busybox:1.36")
	rolled()
	assert.Equal(t, []string{"busybox:1.36"}, slices.Compact(me.lists(t, "get", "pods", "-l", "app="+name, "-o", "jsonpath={.items[*].spec.containers[0].image}")))
	assert.Regexp(t, `(?m)^1 +.*\n2 +.*\n3 +`, me.kubectl(t, "rollout", "history", target))
	assert.Contains(t, me.kubectl(t, "rollout", "history", target, "--revision=2"), "two")

	me.kubectl(t, "rollout", "undo", target, "--to-revision=1")
	rolled()
	assert.Equal(t, []string{"one of " + name, "one of " + name}, me.pages(t, name))
	before := me.running(t, name)
	me.kubectl(t, "rollout", "restart", target)
	rolled()
	after := me.running(t, name)
	assert.Len(t, after, 2)
	for _, pod := range after {
		assert.NotContains(t, before, pod, "each pod is a new one")
	}

	me.kubectl(t, "scale", target, "--replicas=3")
	rolled()
	assert.Equal(t, []string{aliceNode, aliceNode, aliceNode}, me.where(t, "app="+name, 3))
	assert.Contains(t, me.kubectl(t, "get", target), "3/3")
	me.kubectl(t, "delete", "-f", file)
	out, err := me.tries(t, "get", target)
	require.Error(t, err)
	assert.Contains(t, out, "NotFound")
	me.says(t, "", "get", "pods,replicasets", "-l", "app="+name, "-o", "name")
}

func runsJobs(t *testing.T, me person) {
	name := unique("life-job")
	me.has(t, "job.yaml", "NAME", name)
	assert.Contains(t, me.kubectl(t, "wait", "--for=condition=complete", "--timeout=80s", "job/"+name), "condition met")
	assert.Equal(t, "2", me.kubectl(t, "get", "job", name, "-o", "jsonpath={.status.succeeded}"))
	parts := me.lists(t, "get", "pods", "-l", "job-name="+name, "-o", "name")
	require.Len(t, parts, 2)
	out := me.kubectl(t, "logs", "-l", "job-name="+name)
	assert.Contains(t, out, "part 0 of "+name)
	assert.Contains(t, out, "part 1 of "+name)
	assert.Regexp(t, `part [01] of `+name, me.kubectl(t, "logs", "job/"+name))
	me.kubectl(t, "delete", "job", name)
	me.says(t, "", "get", "pods", "-l", "job-name="+name, "-o", "name")
}

func schedules(t *testing.T, me person) {
	name := unique("life-cronjob")
	me.has(t, "cronjob.yaml", "NAME", name)
	me.removesAtLast(t, "job", name+"-now")
	me.kubectl(t, "create", "job", "--from=cronjob/"+name, name+"-now")
	me.kubectl(t, "wait", "--for=condition=complete", "--timeout=80s", "job/"+name+"-now")
	assert.Equal(t, "a run of "+name+"\n", me.kubectl(t, "logs", "job/"+name+"-now"))
	// The next one the controller makes, within a minute; the other was made by hand.
	var job string
	eventually(t, "the time has come", func() bool {
		out, err := me.tries(t, "get", "jobs", "-o", "name")
		for one := range strings.FieldsSeq(out) {
			one = strings.TrimPrefix(one, "job.batch/")
			if strings.HasPrefix(one, name+"-") && one != name+"-now" {
				job = one
			}
		}
		return err == nil && job != ""
	})
	me.kubectl(t, "wait", "--for=condition=complete", "--timeout=80s", "job/"+job)
	assert.Equal(t, "a run of "+name+"\n", me.kubectl(t, "logs", "job/"+job))
	assert.NotEmpty(t, me.kubectl(t, "get", "cronjob", name, "-o", "jsonpath={.status.lastScheduleTime}"))
	me.kubectl(t, "patch", "cronjob", name, "-p", `{"spec": {"suspend": true}}`)
	assert.Contains(t, me.kubectl(t, "get", "cronjob", name), "True")
	me.kubectl(t, "delete", "cronjob", name)
	me.says(t, "", "get", "jobs", job, "--ignore-not-found", "-o", "name")
}

func daemons(t *testing.T, me person) {
	for policy, nodes := range map[string][]string{"private": {aliceNode}, "shared": {sharedNode, aliceNode}} {
		name := unique("life-daemonset")
		file := me.has(t, "daemonset.yaml", "NAME", name, "POLICY", policy)
		assert.Contains(t, me.kubectl(t, "rollout", "status", "daemonset/"+name), "successfully rolled out")
		assert.Equal(t, nodes, me.where(t, "app="+name, len(nodes)), "one on each node that she may use, and none on Bob's")
		me.says(t, strconv.Itoa(len(nodes)), "get", "daemonset", name, "-o", "jsonpath={.status.desiredNumberScheduled}")
		me.kubectl(t, "rollout", "restart", "daemonset/"+name)
		assert.Contains(t, me.kubectl(t, "rollout", "status", "daemonset/"+name), "successfully rolled out")
		assert.Equal(t, nodes, me.where(t, "app="+name, len(nodes)))
		me.kubectl(t, "delete", "-f", file)
	}
}
