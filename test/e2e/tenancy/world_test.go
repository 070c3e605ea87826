// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	cms, qst = "cms", "qst"
	ownerKey = "osn.infn.it/userid"
	policy   = "osn.infn.it/policy"
	poolKey  = "osn.infn.it/pool"
	busybox  = "docker.io/library/busybox:1.36"

	// The lab's nodes: one that CMS shares, and one private one each of Alice and Bob.
	sharedNode, aliceNode, bobNode = "caas-1", "caas-2", "caas-3"
)

// world is a lab with people.
type world struct {
	lab      *lab.Lab
	source   string
	keystone *openstack.Site
	admin    *kubernetes.Clientset
	root     person
	provider *provider
	// direct and front are the URLs of the API server and of the proxy before it.
	direct, front string
	// certificates are of both.
	certificates *x509.CertPool
	// marker is a text that is in all that is Bob's, and that nobody else may ever read.
	marker string

	// Alice is a member of both projects; twin is her login for the other one. Mona manages CMS.
	alice, twin, bob, mona, carol, dave person

	closers []func()
}

func (w *world) close() {
	for _, one := range w.closers {
		one()
	}
}

func (w *world) open(ctx context.Context, logf func(string, ...any)) error {
	var err error
	if w.source, err = gobuild.FindSource(""); err != nil {
		return err
	}
	if w.lab, err = bringUp(ctx, logf); err != nil {
		return err
	}
	if w.keystone, err = w.lab.Keystone(); err != nil {
		return err
	}
	w.marker = "marker-" + rand.Text()
	for _, step := range []func(context.Context) error{w.findServers, w.startProvider, w.addPeople, w.giveNodes, w.furnish} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// bringUp makes the lab. One that an earlier run kept is taken as it is.
func bringUp(ctx context.Context, logf func(string, ...any)) (*lab.Lab, error) {
	if l, err := lab.Open(labName); err == nil && labtest.Kept() {
		return l, nil
	}
	return labtest.Up(ctx, lab.Config{Name: labName, Nodes: map[string]int{lab.CaaS: 3, lab.AF: 0}}, logf)
}

// file is one of the tests' own, in the lab's directory.
func (w *world) file(name string) string { return filepath.Join(w.lab.Dir(), "e2e", name) }

func (w *world) findServers(context.Context) error {
	if err := os.MkdirAll(w.file(""), 0o700); err != nil {
		return err
	}
	cluster, err := w.lab.Cluster(lab.CaaS)
	if err != nil {
		return err
	}
	w.direct, w.front, w.certificates = cluster.InsideServer(), w.lab.InsideProxy(), x509.NewCertPool()
	config, err := cluster.RESTConfig()
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(config.CAFile)
	if config.CAFile == "" {
		ca, err = config.CAData, nil
	}
	if err != nil {
		return err
	}
	w.certificates.AppendCertsFromPEM(ca)
	if w.admin, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	w.root = person{world: w, name: "administrator", server: config.Host, client: client, trusted: true, namespace: cms}
	return nil
}

// client talks to the API server, the proxy and the provider from inside the lab, with HTTP/1.1, which can be upgraded.
func (w *world) client(certificate ...tls.Certificate) *http.Client {
	return &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DialContext: network.Dialer(w.lab.NetNS()), MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute,
			TLSClientConfig: &tls.Config{RootCAs: w.certificates, Certificates: certificate, MinVersion: tls.VersionTLS12},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// component is a part of the cluster, as which an attacker may act who has its key.
func (w *world) component(user string, groups ...string) (person, error) {
	cluster, err := w.lab.Cluster(lab.CaaS)
	if err != nil {
		return person{}, err
	}
	path := w.file("component-" + strings.NewReplacer(":", "_").Replace(user))
	if err := cluster.UserKubeconfig(path, w.direct, user, groups...); err != nil {
		return person{}, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return person{}, err
	}
	pair, err := tls.X509KeyPair(config.CertData, config.KeyData)
	if err != nil {
		return person{}, err
	}
	return person{world: w, name: user, server: w.direct, namespace: cms, client: w.client(pair), trusted: true}, nil
}

// await tries until there is no error, or no time.
func await(ctx context.Context, what string, try func() error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("not in time: %s: %w", what, err)
		}
	}
}

// giveNodes makes two of the lab's nodes private ones.
func (w *world) giveNodes(ctx context.Context) error {
	for node, owner := range map[string]person{aliceNode: w.alice, bobNode: w.bob} {
		pool := "u-" + owner.id
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"labels": map[string]string{lab.NodePoolLabel: pool}},
			"spec":     map[string]any{"taints": []corev1.Taint{{Key: poolKey, Value: pool, Effect: corev1.TaintEffectNoSchedule}}},
		})
		if err != nil {
			return err
		}
		if _, err := w.admin.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// grant gives a project's members rights beyond those of tenants, as an administrator might by mistake: what then still
// fails, the webhooks refuse.
func (w *world) grant(ctx context.Context, name string, rules ...rbacv1.PolicyRule) error {
	meta := metav1.ObjectMeta{Name: name}
	_, err := w.admin.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	_, bindErr := w.admin.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "osn:authenticated"}},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		err = nil
	}
	if apierrors.IsAlreadyExists(bindErr) {
		bindErr = nil
	}
	return errors.Join(err, bindErr)
}

// certificateFor makes an authority and what a server needs of it, in files named after prefix.
func certificateFor(prefix, name string, sans ...string) (ca []byte, err error) {
	authority, pair, err := kube.NewCA(name + "-ca")
	if err != nil {
		return nil, err
	}
	serving, err := authority.Serving(name, sans...)
	if err != nil {
		return nil, err
	}
	for suffix, content := range map[string][]byte{".ca": pair.Cert, ".crt": serving.Cert, ".key": serving.Key} {
		if err := os.WriteFile(prefix+suffix, content, 0o600); err != nil {
			return nil, err
		}
	}
	return pair.Cert, nil
}
