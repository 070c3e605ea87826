// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mine are those that begin in a certain way.
func mine(all []string, prefix string) []string {
	var some []string
	for _, one := range all {
		if strings.HasPrefix(one, prefix) {
			some = append(some, one)
		}
	}
	return some
}

func serves(t *testing.T, me person) {
	name := unique("life-service")
	me.has(t, "deployment.yaml", "NAME", name)
	me.has(t, "service.yaml", "NAME", name)
	me.kubectl(t, "rollout", "status", "deployment/"+name)
	pods := me.lists(t, "get", "pods", "-l", "app="+name, "-o", "jsonpath={.items[*].status.podIP}")
	require.Len(t, pods, 2)
	eventually(t, "its EndpointSlices have both pods", func() bool {
		out, err := me.tries(t, "get", "endpointslices", "-l", "kubernetes.io/service-name="+name, "-o", "jsonpath={.items[*].endpoints[*].addresses[*]}")
		return err == nil && assert.ObjectsAreEqual(sorted(pods), sorted(strings.Fields(out)))
	})
	address := me.kubectl(t, "get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
	for _, target := range []string{address, name, name + "." + cms, name + "." + cms + ".svc.cluster.local"} {
		assert.Equal(t, "one of "+name+"\n", me.page(t, "p-a", target), "another pod of hers reaches %s", target)
	}
	// Without pods nobody answers, and with them again somebody does.
	me.kubectl(t, "scale", "deployment/"+name, "--replicas=0")
	me.says(t, "", "get", "endpointslices", "-l", "kubernetes.io/service-name="+name, "-o", "jsonpath={.items[*].endpoints[*].addresses[*]}")
	me.kubectl(t, "scale", "deployment/"+name, "--replicas=1")
	assert.Equal(t, "one of "+name+"\n", me.page(t, "p-a", name))
	assert.Contains(t, me.kubectl(t, "describe", "service", name), address)

	exposed := name + "-exposed"
	me.removesAtLast(t, "service", exposed)
	me.kubectl(t, "expose", "deployment", name, "--name="+exposed, "--port=8000", "--target-port=8080")
	assert.Equal(t, "one of "+name+"\n", me.page(t, "p-a", exposed+":8000"))
}

// routes has no controller to look for: the lab has none that serves Ingresses. The object is what is the tenant's.
func routes(t *testing.T, me person) {
	name := unique("life-ingress")
	me.has(t, "service.yaml", "NAME", name)
	file := me.has(t, "ingress.yaml", "NAME", name, "HOST", "one.example.org")
	host := func() string {
		return me.kubectl(t, "get", "ingress", name, "-o", "jsonpath={.spec.rules[0].host} {.spec.rules[0].http.paths[0].backend.service.name}")
	}
	assert.Equal(t, "one.example.org "+name, host())
	assert.Regexp(t, name+` +nginx +one\.example\.org`, me.kubectl(t, "get", "ingresses"))
	assert.Contains(t, me.kubectl(t, "describe", "ingress", name), name+":http")
	me.kubectl(t, "apply", "-f", lifeFile(t, "ingress.yaml", "NAME", name, "HOST", "two.example.org"))
	assert.Equal(t, "two.example.org "+name, host())
	me.kubectl(t, "patch", "ingress", name, "--type=json", "-p", `[{"op": "replace", "path": "/spec/rules/0/host", "value": "three.example.org"}]`)
	assert.Equal(t, "three.example.org "+name, host())
	me.kubectl(t, "annotate", "ingress", name, "kubernetes.io/ingress.class=nginx")
	me.kubectl(t, "delete", "-f", file)
	out, err := me.tries(t, "get", "ingress", name)
	require.Error(t, err)
	assert.Contains(t, out, "NotFound")
}
