// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/hypervisor/joiner"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/manifest"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	controllerName  = "osnode-controller"
	systemNamespace = "caas-system"
	clusterName     = "bench"
	tokenLife       = 12 * time.Hour
	settleTime      = 200 * time.Millisecond
)

// world is a real control plane with the platform's rights and policies on it. Its
// processes end with this one, whatever happens.
type world struct {
	options *options
	dir     string
	plane   *kube.ControlPlane
	scheme  *runtime.Scheme
	config  *rest.Config
	admin   client.Client
	joiner  *joiner.Joiner
}

func newWorld(ctx context.Context, o *options) (*world, error) {
	dir, err := os.MkdirTemp("", "bench-osnode-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	w := &world{options: o, dir: dir, scheme: runtime.NewScheme(), joiner: joiner.New(joiner.Config{})}
	if err := w.start(ctx); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) start(ctx context.Context) error {
	if err := errors.Join(clientgoscheme.AddToScheme(w.scheme), osnodev1.AddToScheme(w.scheme)); err != nil {
		return err
	}
	binaries, err := kube.Build(ctx, gobuild.Config{})
	if err != nil {
		return fmt.Errorf("build Kubernetes: %w", err)
	}
	w.plane, err = kube.Start(ctx, kube.Config{
		Name: clusterName, Dir: filepath.Join(w.dir, "cluster"), BinDir: binaries, ControllerManager: true, Scheduler: true,
		APIServerArgs: []string{
			"--enable-bootstrap-token-auth=true", "--enable-admission-plugins=NodeRestriction",
			"--feature-gates=MutatingAdmissionPolicy=true", "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
		},
		EndWithStarter: true,
	})
	if err != nil {
		return err
	}
	if w.config, err = w.plane.RESTConfig(); err != nil {
		return err
	}
	if w.admin, err = client.New(w.config, client.Options{Scheme: w.scheme}); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	source, err := gobuild.FindSource("")
	if err != nil {
		return err
	}
	return manifest.Apply(ctx, w.config, os.DirFS(filepath.Join(source, "deploy", "osnode")),
		"crds/*.yaml", "rbac.yaml", "bootstrap-rbac.yaml", "tenant-role.yaml", "policies.yaml", "owner-labels.yaml")
}

// close ends everything and removes the files.
func (w *world) close() error {
	w.joiner.Close()
	var errs []error
	if w.plane != nil {
		errs = append(errs, w.plane.Kill())
	}
	if keep := w.options.keepLogs; keep != "" {
		errs = append(errs, keepLogs(w.dir, keep))
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// keepLogs copies all logs below dir.
func keepLogs(dir, to string) error {
	if err := os.MkdirAll(to, 0o750); err != nil {
		return fmt.Errorf("keep logs: %w", err)
	}
	var errs []error
	for _, pattern := range []string{"*.log", "*/*.log", "*/*/*.log"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is well-formed
		for _, file := range files {
			content, err := os.ReadFile(filepath.Clean(file))
			if err == nil {
				err = os.WriteFile(filepath.Join(to, filepath.Base(file)), content, 0o600) //nolint:gosec // where the user wants them
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// controllerKubeconfig makes the controller the ServiceAccount that it is at a site.
func (w *world) controllerKubeconfig(ctx context.Context) (string, error) {
	set, err := kubernetes.NewForConfig(w.config)
	if err != nil {
		return "", fmt.Errorf("make client: %w", err)
	}
	seconds := int64(tokenLife.Seconds())
	token, err := set.CoreV1().ServiceAccounts(systemNamespace).CreateToken(ctx, controllerName,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("log in as %s: %w", controllerName, err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[clusterName] = &clientcmdapi.Cluster{Server: w.plane.Server(), CertificateAuthority: w.plane.CAFile()}
	config.AuthInfos[controllerName] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts[clusterName] = &clientcmdapi.Context{Cluster: clusterName, AuthInfo: controllerName}
	config.CurrentContext = clusterName
	path := filepath.Join(w.dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("write kubeconfig: %w", err)
	}
	return path, nil
}

// tenant is a project with one user, and a namespace.
type tenant struct {
	namespace, key, flavor string
	projectID, userID      string
	projectName, userName  string
	client                 client.Client // the user's own
}

// admit makes the tenant's namespace and logs the user in, as far as the cluster can tell.
func (w *world) admit(ctx context.Context, t *tenant) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: t.namespace, Labels: map[string]string{
		osnodev1.LabelProjectID: t.projectID, osnodev1.LabelProjectName: t.projectName,
	}}}
	if err := w.admin.Create(ctx, namespace); err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	for _, role := range []string{"edit", "osnode-tenant"} {
		binding := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Name: role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: t.userName}},
		}
		if err := w.admin.Create(ctx, binding); err != nil {
			return fmt.Errorf("create role binding: %w", err)
		}
	}
	config := rest.CopyConfig(w.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: t.userName, Groups: []string{"system:authenticated"}, Extra: map[string][]string{
		osnodev1.LabelUserID: {t.userID}, osnodev1.LabelUserName: {t.userName},
		osnodev1.LabelProjectID: {t.projectID}, osnodev1.LabelProjectName: {t.projectName},
	}}
	var err error
	if t.client, err = client.New(config, client.Options{Scheme: w.scheme}); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return w.awaitLogin(ctx, t)
}

// awaitLogin waits until the new policies and rights have effect on the user's objects.
func (w *world) awaitLogin(ctx context.Context, t *tenant) error {
	return await(ctx, time.Minute, settleTime, "the policies to have effect", func() (bool, error) {
		trial := t.node("trial")
		err := t.client.Create(ctx, trial, client.DryRunAll)
		return err == nil && trial.Labels[osnodev1.LabelUserID] == t.userID, nil
	})
}

func (t *tenant) node(name string) *osnodev1.OpenStackNode {
	return &osnodev1.OpenStackNode{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Name: name},
		Spec:       osnodev1.OpenStackNodeSpec{Flavor: t.flavor, KeyPair: t.key, Policy: osnodev1.PolicyPrivate},
	}
}

// await asks done every so often until it says yes.
func await(ctx context.Context, limit, every time.Duration, what string, done func() (bool, error)) error {
	err := wait.PollUntilContextTimeout(ctx, every, limit, true, func(context.Context) (bool, error) { return done() })
	if err != nil {
		return fmt.Errorf("wait for %s: %w", what, err)
	}
	return nil
}
