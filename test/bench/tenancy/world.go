// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/test/property/site"
)

const (
	alice, bob = "a11ce000000000000000000000000001", "b0b00000000000000000000000000002"

	// own is a project's namespace, plain one that no webhook is asked about; both have the same in them.
	own, plain = "cms", "plain"
	// outsider is a user whom no webhook is asked about.
	outsider = "outsider"

	owners     = 500
	inOwn      = 1000 // objects in own, and in plain
	ofAlice    = 100  // of these
	secretRef  = "the-secret"
	writers    = 32
	sayEvery   = 10 * time.Second
	namespaces = 20
)

func project() tenant.Project {
	return tenant.Project{ID: "c0ffee00000000000000000000000000", Name: "CMS"}
}

// world is a site with as many objects as were asked for.
type world struct {
	*site.Site

	dir   string
	admin *kubernetes.Clientset
}

// newWorld makes a site. Without objects, kube-mt-authz runs in it.
func newWorld(ctx context.Context, o *options, late bool) (*world, error) {
	dir, err := os.MkdirTemp("", "bench-tenancy-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	w := &world{dir: dir}
	spaces := map[string]tenant.Project{own: project(), plain: {}}
	for i := range namespaces {
		spaces[space(i)] = tenant.Project{ID: fmt.Sprintf("%032x", i+1), Name: space(i)}
	}
	w.Site, err = site.Start(ctx, site.Config{
		Dir: dir, Programs: o.binDir, Projects: spaces, Late: late,
		Users: users(),
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := w.furnish(ctx); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func space(i int) string { return fmt.Sprintf("project-%d", i) }

func users() map[string]tenant.User {
	return map[string]tenant.User{
		"alice":  site.User("alice@infn.it", alice, project()),
		"bob":    site.User("bob@infn.it", bob, project()),
		outsider: {Name: "system:" + outsider, UID: outsider},
	}
}

func (w *world) furnish(ctx context.Context) error {
	var err error
	if w.admin, err = kubernetes.NewForConfig(w.Admin()); err != nil {
		return err
	}
	_, err = w.admin.RbacV1().RoleBindings(plain).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "mt-tenant"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "mt-tenant"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "system:" + outsider}},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("let the outsider in: %w", err)
	}
	for _, namespace := range []string{own, plain} {
		for i := range inOwn {
			owner := bob
			if i%(inOwn/ofAlice) == 0 {
				owner = alice
			}
			if err := w.put(ctx, namespace, numbered(i), owner, project().ID, false); err != nil {
				return err
			}
		}
		if err := w.put(ctx, namespace, secretRef, alice, project().ID, true); err != nil {
			return err
		}
	}
	return nil
}

func numbered(i int) string { return fmt.Sprintf("some-workload-5d9f7c6b8d-%06d", i) }

// put makes a ConfigMap or Secret of somebody.
func (w *world) put(ctx context.Context, namespace, name, owner, projectID string, secret bool) error {
	meta := metav1.ObjectMeta{Name: name, Labels: tenant.Mark{
		UserID: owner, UserName: "somebody", Project: tenant.Project{ID: projectID, Name: namespace},
	}.Labels()}
	var err error
	if secret {
		_, err = w.admin.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{ObjectMeta: meta}, metav1.CreateOptions{})
	} else {
		_, err = w.admin.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"a": "b"}}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// world is the one with many objects. Its first user gets it without kube-mt-authz.
func (o *options) world(ctx context.Context) (*world, error) {
	if o.filled != nil {
		return o.filled, nil
	}
	w, err := newWorld(ctx, o, true)
	if err != nil {
		return nil, err
	}
	o.say("  %d objects are made\n", o.objects)
	if err := w.fill(ctx, o); err != nil {
		return nil, errors.Join(err, w.close())
	}
	o.filled = w
	return w, nil
}

func (w *world) close() error { return errors.Join(w.Close(), os.RemoveAll(w.dir)) }

// webhookClient is how the API server reaches a webhook.
func (w *world) webhookClient() (*http.Client, error) {
	return clientWith(w.Path("apiserver-client.crt"), w.Path("apiserver-client.key"), w.Path("ca.crt"), nil)
}

// clientWith is a client with a certificate, which keeps its connections.
func clientWith(certFile, keyFile, caFile string, transport *http.Transport) (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Clean(caFile))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	if transport == nil {
		transport = &http.Transport{}
	}
	transport.TLSClientConfig = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}
	transport.MaxIdleConnsPerHost, transport.ForceAttemptHTTP2 = writers, true // as client-go's
	return &http.Client{Transport: transport, Timeout: time.Minute}, nil
}

func clientset(config *rest.Config) (*kubernetes.Clientset, error) {
	return kubernetes.NewForConfig(config)
}
