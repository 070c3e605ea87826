// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/deploy"
	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/kube"
)

// servingOfNode is what a kubelet's serving certificate looks like.
func servingOfNode(node string) kube.Certificate {
	return kube.Certificate{
		CommonName: "system:node:" + node, Organizations: []string{"system:nodes"},
		SANs: []string{node, address}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// prepareCaaS makes the tenant's namespace and the sidecar's identity: a user of
// Keystone, or in a lab without tenants one with a certificate and the rights of
// deploy/interlink-sidecar.
func (p *Path) prepareCaaS(ctx context.Context) error {
	if p.Lab.Tenancy() {
		return p.prepareTenant(ctx)
	}
	caas, err := p.Lab.Cluster(lab.CaaS)
	if err != nil {
		return err
	}
	user := "offload-" + p.Node
	if err := caas.UserKubeconfig(p.file("caas.kubeconfig"), "https://"+p.via(sidecarToCaaS), user, "offload"); err != nil {
		return err
	}
	client, err := clientOf(caas)
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.RemoteNamespace}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); IgnoreExisting(err) != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	return p.grantSidecar(ctx, client, user)
}

// grantSidecar gives a user the rights that deploy/interlink-sidecar gives a
// ServiceAccount.
func (p *Path) grantSidecar(ctx context.Context, client kubernetes.Interface, user string) error {
	subject := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}}
	meta := metav1.ObjectMeta{Name: user}
	role, clusterRole := &rbacv1.Role{}, &rbacv1.ClusterRole{}
	if err := errors.Join(pick(deploy.SidecarRights(), role), pick(deploy.SidecarCapacityRights(), clusterRole)); err != nil {
		return err
	}
	role.ObjectMeta, clusterRole.ObjectMeta = meta, meta
	for i := range role.Rules {
		if len(role.Rules[i].ResourceNames) > 0 { // its namespace
			role.Rules[i].ResourceNames = []string{p.RemoteNamespace}
		}
	}
	rbac := client.RbacV1()
	for what, create := range map[string]func() error{
		"role": func() error {
			_, err := rbac.Roles(p.RemoteNamespace).Create(ctx, role, metav1.CreateOptions{})
			return err
		},
		"role binding": func() error {
			_, err := rbac.RoleBindings(p.RemoteNamespace).Create(ctx, &rbacv1.RoleBinding{
				ObjectMeta: meta, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
			}, metav1.CreateOptions{})
			return err
		},
		"cluster role": func() error {
			_, err := rbac.ClusterRoles().Create(ctx, clusterRole, metav1.CreateOptions{})
			return err
		},
		"cluster role binding": func() error {
			_, err := rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
				ObjectMeta: meta, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
			}, metav1.CreateOptions{})
			return err
		},
	} {
		if err := IgnoreExisting(create()); err != nil {
			return fmt.Errorf("create %s for the sidecar: %w", what, err)
		}
	}
	return nil
}

// pick decodes the document of manifest that is of object's kind.
func pick(manifest string, object runtime.Object) error {
	want := strings.TrimPrefix(fmt.Sprintf("%T", object), "*v1.")
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096)
	for {
		var document runtime.RawExtension
		if err := decoder.Decode(&document); err != nil {
			return fmt.Errorf("find %s in manifest: %w", want, err)
		}
		var meta metav1.TypeMeta
		if err := json.Unmarshal(document.Raw, &meta); err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		if meta.Kind != want {
			continue
		}
		if err := json.Unmarshal(document.Raw, object); err != nil {
			return fmt.Errorf("read %s in manifest: %w", want, err)
		}
		return nil
	}
}

// prepareOrigin makes the virtual kubelet's identity: that of a node, which the
// Node authorizer holds to what its own pods need.
func (p *Path) prepareOrigin(_ context.Context) error {
	origin, err := p.Lab.Cluster(lab.AF)
	if err != nil {
		return err
	}
	return origin.UserKubeconfig(p.file("origin.kubeconfig"), "https://"+p.via(kubeletToOrigin), "system:node:"+p.Node, "system:nodes")
}

func clientOf(cluster *lab.Cluster) (*kubernetes.Clientset, error) {
	config, err := cluster.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of cluster %s: %w", cluster.Name, err)
	}
	return client, nil
}

// IgnoreExisting returns nil for the error of a create whose object exists.
func IgnoreExisting(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// AwaitReady waits until the virtual node is Ready.
func (p *Path) AwaitReady(ctx context.Context) error {
	origin, err := p.Lab.Cluster(lab.AF)
	if err != nil {
		return err
	}
	client, err := clientOf(origin)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	state := "not registered"
	for {
		node, err := client.CoreV1().Nodes().Get(ctx, p.Node, metav1.GetOptions{})
		if err == nil {
			ready := readyCondition(node)
			if ready.Status == corev1.ConditionTrue {
				return nil
			}
			if ready.Type != "" {
				state = ready.Reason + ": " + ready.Message
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("virtual node %s is not Ready: %s%s", p.Node, state, p.lastWords())
		}
	}
}

// Ready tells whether a node is.
func Ready(node *corev1.Node) bool { return readyCondition(node).Status == corev1.ConditionTrue }

// readyCondition is the node's Ready condition, or an empty one.
func readyCondition(node *corev1.Node) corev1.NodeCondition {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition
		}
	}
	return corev1.NodeCondition{}
}
