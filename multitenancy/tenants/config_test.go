// SPDX-License-Identifier: Apache-2.0

package tenants_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/multitenancy/tenants"
)

func TestNew(t *testing.T) {
	t.Parallel()
	_, err := tenants.New(tenants.Config{})
	require.ErrorContains(t, err, "client is required")
	_, err = tenants.New(tenants.Config{
		Client:   &kubernetes.Clientset{},
		Projects: []tenant.Project{{Name: "CMS"}, {ID: "a b", Name: "x"}, {ID: "c"}},
		Roles:    []string{""}, Reserved: []string{"Kube_System"},
		Labels: map[string]string{"osn.infn.it/projectid": "x", "a": "b c"},
	})
	for _, want := range []string{
		`projects[0]: id ""`, `projects[1]: id "a b"`, "projects[2]: name is required", "roles: a name is empty", `reserved: "Kube_System"`,
		"labels: osn.infn.it/projectid is the platform's", "b c",
	} {
		require.ErrorContains(t, err, want)
	}
	controller, err := tenants.New(tenants.Config{Client: &kubernetes.Clientset{}})
	require.NoError(t, err)
	controller.Seen(tenant.Project{}) // nothing is to be made, and nothing waits
}

// asked counts what an API server is asked, and answers nothing.
type asked struct{ atomic.Int32 }

func (a *asked) RoundTrip(*http.Request) (*http.Response, error) {
	a.Add(1)
	return nil, errors.New("no answer")
}

// TestLoginDoesNotWait has nobody run the controller: who tells it of a login asks nobody, and returns.
func TestLoginDoesNotWait(t *testing.T) {
	t.Parallel()
	var server asked
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://api", Transport: &server})
	require.NoError(t, err)
	controller, err := tenants.New(tenants.Config{Client: client})
	require.NoError(t, err)
	for at := range 1000 {
		controller.Seen(tenant.Project{ID: strconv.Itoa(at), Name: "CMS"})
	}
	assert.Zero(t, server.Load())
}

// TestLoginsDoNotHurryWhatFails has members log in over and over while their namespace cannot be made.
func TestLoginsDoNotHurryWhatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var server asked
		client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://api", Transport: &server, QPS: -1})
		require.NoError(t, err)
		controller, err := tenants.New(tenants.Config{Client: client})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { assert.NoError(t, controller.Run(ctx)) })
		for range 300 {
			controller.Seen(tenant.Project{ID: "c0", Name: "CMS"})
			time.Sleep(10 * time.Millisecond)
		}
		// The look at the beginning, the first try, and those after 0.2, 0.6, 1.4 and 3 seconds.
		assert.LessOrEqual(t, server.Load(), int32(6))
		assert.GreaterOrEqual(t, server.Load(), int32(4), "it is tried again")
		cancel()
		running.Wait()
	})
}

func TestParseTemplates(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../deploy/kube-mt-authn/namespace.yaml")
	require.NoError(t, err)
	templates, err := tenants.ParseTemplates(content)
	require.NoError(t, err)
	require.Len(t, templates.Quotas, 1)
	assert.Equal(t, "project", templates.Quotas[0].Name)
	require.Len(t, templates.Policies, 1)
	templates, err = tenants.ParseTemplates([]byte("# nothing\n---\napiVersion: v1\nkind: LimitRange\nmetadata: {name: x}\nspec: {limits: [{type: Pod}]}\n"))
	require.NoError(t, err)
	require.Len(t, templates.Limits, 1)
	for name, test := range map[string]struct{ text, want string }{
		"other kind":    {"apiVersion: v1\nkind: Secret\nmetadata: {name: x}", "document 1: Secret is none of"},
		"not known":     {"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: x}", "document 1"},
		"unknown field": {"apiVersion: v1\nkind: LimitRange\nmetadata: {name: x}\nspec: {limit: []}", `unknown field "spec.limit"`},
		"namespace":     {"apiVersion: v1\nkind: LimitRange\nmetadata: {name: x, namespace: cms}", "a name and no namespace"},
		"no name":       {"apiVersion: v1\nkind: LimitRange", "a name and no namespace"},
		"no YAML":       {"a: [", "document 1"},
		"second":        {"apiVersion: v1\nkind: LimitRange\nmetadata: {name: x}\n---\nx: y", "document 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tenants.ParseTemplates([]byte(test.text))
			require.ErrorContains(t, err, test.want)
		})
	}
}
