// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package osnode_test looks at OpenStackNodes from outside: the real services of
// OpenStack, the real controller, kubectl, and nodes that boot the node image.
package osnode_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/site"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	labName  = "osnode"
	patience = 3 * time.Minute
	interval = 100 * time.Millisecond
)

// world is a lab with OpenStack and the OSNode controller.
type world struct {
	lab    *lab.Lab
	site   *site.Site
	cloud  *openstack.Site
	client client.Client
	source string
}

//nolint:gochecknoglobals // one lab serves all tests of the package
var shared labtest.World[world]

// TestMain removes the lab at the end, also when it is interrupted.
func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // the client's library would complain that it has none
	os.Exit(shared.Run(m, labtest.Remove(labName)))
}

// theWorld returns the lab, made by the first caller.
func theWorld(t *testing.T) *world {
	t.Helper()
	return shared.Get(t, newWorld)
}

func newWorld(ctx context.Context, logf func(string, ...any)) (*world, error) {
	bin, err := labtest.Bin()
	if err != nil {
		return nil, err
	}
	w := &world{}
	w.lab, err = labtest.Up(ctx, lab.Config{Name: labName, OpenStack: true, Nodes: map[string]int{lab.CaaS: 0, lab.AF: 0}}, logf)
	if err != nil {
		return nil, err
	}
	if w.source, err = gobuild.FindSource(""); err != nil {
		return nil, err
	}
	if w.site, err = site.New(ctx, site.Config{Lab: w.lab, BinDir: bin, Manifests: filepath.Join(w.source, "deploy")}); err != nil {
		return nil, err
	}
	w.cloud = w.site.Cloud
	for user, projects := range map[string][]string{openstack.Zangrand: {openstack.CMS, openstack.QST}, openstack.Lisa: {openstack.QST}} {
		for _, project := range projects {
			if _, err := w.site.Authorize(ctx, user, project); err != nil {
				return nil, err
			}
		}
	}
	if w.client, err = w.newClient(); err != nil {
		return nil, err
	}
	return w, w.site.Start(ctx)
}

func (w *world) newClient() (client.Client, error) {
	cluster, err := w.lab.Cluster(lab.CaaS)
	if err != nil {
		return nil, err
	}
	config, err := cluster.RESTConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := osnodev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: scheme})
}

// user is somebody at a terminal.
type user struct {
	*world

	kubeconfig string
}

func (w *world) user(t *testing.T, name, project string) user {
	t.Helper()
	kubeconfig, err := w.site.UserKubeconfig(name, project)
	require.NoError(t, err)
	return user{world: w, kubeconfig: kubeconfig}
}

// tries runs kubectl as the user and returns all that it prints.
func (u user) tries(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, u.lab.Kubectl(), args...)
	command.Dir = filepath.Join(u.source, "examples", "osnode")
	command.Env = append(os.Environ(), "KUBECONFIG="+u.kubeconfig)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err := command.Run()
	return out.String(), err
}

// kubectl runs kubectl as the user.
func (u user) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := u.tries(t, args...)
	require.NoError(t, err, "kubectl %v: %s", args, out)
	return out
}

// eventually waits until done says so; it also says how things are.
func eventually(t *testing.T, what string, done func(ctx context.Context) (ok bool, state string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		ok, state := done(ctx)
		if ok {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			require.FailNow(t, "not in time: "+what, state)
		}
	}
}

// osn is an OpenStackNode as it is now; nil when there is none.
func (w *world) osn(ctx context.Context, namespace, name string) (*osnodev1.OpenStackNode, error) {
	object := &osnodev1.OpenStackNode{}
	err := w.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object)
	return object, err
}

// awaitPhase waits until an OpenStackNode is in a phase.
func (w *world) awaitPhase(t *testing.T, namespace, name string, phase osnodev1.Phase) *osnodev1.OpenStackNode {
	t.Helper()
	var last *osnodev1.OpenStackNode
	eventually(t, name+" is "+string(phase), func(ctx context.Context) (bool, string) {
		object, err := w.osn(ctx, namespace, name)
		if err != nil {
			return false, err.Error()
		}
		last = object
		return object.Status.Phase == phase, fmt.Sprintf("%s: %s\n%+v", object.Status.Phase, object.Status.Description, object.Status.Conditions)
	})
	return last
}
