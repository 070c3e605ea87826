// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	// commonNode leads to nodes that all cases share.
	commonNode = "caas-virtual"
	// siteNode leads to a node of its own, by a site with a policy.
	siteNode = "caas-site"
	// actedNode leads to nodes whose kubelet is the test.
	actedNode = "caas-acted"
	// brokenNode and brokenNode2 lead to the common nodes by paths whose parts are killed.
	brokenNode  = "caas-broken"
	brokenNode2 = "caas-broken-2"

	commonNamespace = "cms"
	siteMachine     = "caas-3"
	siteLabel       = "fidelity.test/site"
	actedLabel      = "fidelity.test/acted"
	originID        = "af"
)

// world is the lab with five offloading paths.
type world struct {
	lab      *lab.Lab
	af, caas *kubernetes.Clientset

	common, site, acted *offload.Path
	broken              [2]*offload.Path
	// owner is who the sidecars are in the target cluster.
	owner string
}

// open makes the lab, or takes one over that was kept.
func (w *world) open(ctx context.Context, logf func(string, ...any)) error {
	programs, err := binDir()
	if err != nil {
		return err
	}
	_, err = lab.Up(ctx, lab.Config{
		Name: labName, Nodes: map[string]int{lab.CaaS: 3, lab.AF: 1}, Executable: filepath.Join(programs, "caas-lab"),
		Progress: func(p lab.Progress) {
			if p.Done {
				logf("%s (%s)", p.Step, p.Elapsed.Round(time.Millisecond))
			}
		},
	})
	if err != nil {
		return err
	}
	if w.lab, err = lab.Open(labName); err != nil {
		return err
	}
	for name, client := range map[string]**kubernetes.Clientset{lab.AF: &w.af, lab.CaaS: &w.caas} {
		if *client, err = w.client(name); err != nil {
			return err
		}
	}
	keystone, err := w.lab.Keystone()
	if err != nil {
		return err
	}
	user, err := keystone.User(offload.User)
	if err != nil {
		return err
	}
	w.owner = user.ID
	return w.openPaths(ctx, programs)
}

func (w *world) client(cluster string) (*kubernetes.Clientset, error) {
	c, err := w.lab.Cluster(cluster)
	if err != nil {
		return nil, err
	}
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func (w *world) openPaths(ctx context.Context, programs string) error {
	if err := w.setSiteApart(ctx); err != nil {
		return err
	}
	exists := func(key string) []corev1.Toleration {
		return []corev1.Toleration{{Key: key, Operator: corev1.TolerationOpExists}}
	}
	for i, one := range []struct {
		path   **offload.Path
		config offload.Config
		extra  map[string]any
	}{
		{&w.common, offload.Config{Node: commonNode, RemoteNamespace: commonNamespace}, nil},
		{&w.site, offload.Config{
			Node: siteNode, RemoteNamespace: siteNamespaces()[0].target,
			NodeSelector: map[string]string{siteLabel: "true"}, Tolerations: exists(siteLabel),
		}, siteSettings()},
		{&w.acted, offload.Config{
			Node: actedNode, RemoteNamespace: "cms-acted",
			NodeSelector: map[string]string{actedLabel: "true"}, Tolerations: exists(actedLabel),
		}, map[string]any{"policy": map[string]any{"keepNodeSelectorKeys": []string{actedMachineKey}}}},
		{&w.broken[0], offload.Config{Node: brokenNode, RemoteNamespace: "cms-broken"}, nil},
		{&w.broken[1], offload.Config{Node: brokenNode2, RemoteNamespace: "cms-broken-2"}, nil},
	} {
		one.config.Lab, one.config.BinDir, one.config.Index = w.lab, programs, i
		path, err := offload.New(ctx, one.config)
		if err != nil {
			return err
		}
		*one.path = path
		if err := errors.Join(path.StopAll(ctx), labtest.Settle(path, one.extra), ownAuthority(path)); err != nil {
			return err
		}
	}
	for _, namespace := range siteNamespaces() {
		if err := w.lab.AddTenantNamespace(ctx, offload.Project, namespace.target); err != nil {
			return err
		}
	}
	return w.startPaths(ctx)
}

func (w *world) paths() []*offload.Path {
	return []*offload.Path{w.common, w.site, w.acted, w.broken[0], w.broken[1]}
}

func (w *world) startPaths(ctx context.Context) error {
	return start(ctx, w.paths()...)
}

// start starts of paths what does not run, and returns when all are ready.
func start(ctx context.Context, paths ...*offload.Path) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for _, path := range paths {
		if err := path.StartAll(ctx); err != nil {
			return err
		}
	}
	for _, path := range paths {
		if err := path.AwaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// setSiteApart keeps everybody else off the site's node.
func (w *world) setSiteApart(ctx context.Context) error {
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:"true"}},"spec":{"taints":[{"key":%q,"value":"true","effect":"NoSchedule"}]}}`, siteLabel, siteLabel)
	_, err := w.caas.CoreV1().Nodes().Patch(ctx, siteMachine, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

// binDir is where make build put the programs.
func binDir() (string, error) {
	dir := os.Getenv("CAAS_BIN")
	if dir == "" {
		return "", errors.New("CAAS_BIN names the directory of the built programs; run the tests by make e2e")
	}
	return filepath.Abs(dir)
}

// apiClient speaks to a path's API as its virtual kubelet does.
func (w *world) apiClient(t *testing.T, path *offload.Path) *interlink.Client {
	t.Helper()
	ca, cert, key := path.ClientFiles()
	pem, err := os.ReadFile(ca)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	transport, err := interlink.NewTransport(path.APIURL(), &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	transport.DialContext = network.Dialer(w.lab.NetNS())
	t.Cleanup(transport.CloseIdleConnections)
	client, err := interlink.NewClient(interlink.ClientConfig{BaseURL: path.APIURL(), HTTP: &http.Client{Transport: transport}})
	require.NoError(t, err)
	return client
}

// kubectl is a command of a user of one of the clusters.
func (w *world) kubectl(ctx context.Context, t *testing.T, cluster, namespace string, args ...string) *exec.Cmd {
	t.Helper()
	c, err := w.lab.Cluster(cluster)
	require.NoError(t, err)
	return exec.CommandContext(ctx, w.lab.Kubectl(), append([]string{"--kubeconfig=" + c.Kubeconfig(), "--namespace=" + namespace}, args...)...)
}

func output(t *testing.T, command *exec.Cmd) string {
	t.Helper()
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	require.NoError(t, command.Run(), "%v: %s", command.Args, &problems)
	return out.String()
}
