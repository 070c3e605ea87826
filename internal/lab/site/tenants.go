// SPDX-License-Identifier: Apache-2.0

package site

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/openstack"
)

const (
	projectIDLabel   = "osn.infn.it/projectid"
	projectNameLabel = "osn.infn.it/projectname"
	// membersGroup is the group of a project's members, with the project's id behind it.
	membersGroup = "osn:project:"
	// memberRoles are what a member may do in the project's namespace.
	editRole, tenantRole = "edit", "osnode-tenant"
)

// NamespaceOf is the namespace of a project.
func NamespaceOf(project string) string { return lab.TenantNamespace(project) }

// letNodesProxy lets kube-proxy use the kubelet's certificate: it reads Services and their endpoints, of all namespaces.
func (s *Site) letNodesProxy(ctx context.Context) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "lab:nodes-proxy"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:node-proxier"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:nodes"}},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return wrap(err, "let nodes run kube-proxy")
}

// AddTenant makes a project's namespace and gives its members their rights in it. What exists is left alone.
func (s *Site) AddTenant(ctx context.Context, project string) error {
	if s.Lab.Tenancy() {
		return s.Lab.AddTenantNamespace(ctx, project, NamespaceOf(project))
	}
	known, err := s.Cloud.Project(project)
	if err != nil {
		return err
	}
	id := known.ID
	client, err := s.client()
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: NamespaceOf(project), Labels: map[string]string{projectIDLabel: id, projectNameLabel: project},
	}}
	if err := ensureNamespace(ctx, client, namespace); err != nil {
		return err
	}
	for _, role := range []string{editRole, tenantRole} {
		_, err := client.RbacV1().RoleBindings(namespace.Name).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "members-" + role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: membersGroup + id}},
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("let members of %s into namespace %s: %w", project, namespace.Name, err)
		}
	}
	return nil
}

// ensureNamespace makes a namespace, or gives the one that is there its labels: another part of the lab may have made it.
func ensureNamespace(ctx context.Context, client kubernetes.Interface, namespace *corev1.Namespace) error {
	namespaces := client.CoreV1().Namespaces()
	_, err := namespaces.Create(ctx, namespace, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return wrap(err, "create namespace "+namespace.Name)
	}
	current, err := namespaces.Get(ctx, namespace.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read namespace %s: %w", namespace.Name, err)
	}
	changed := false
	for key, value := range namespace.Labels {
		if current.Labels[key] != value {
			metav1.SetMetaDataLabel(&current.ObjectMeta, key, value)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	_, err = namespaces.Update(ctx, current, metav1.UpdateOptions{})
	return wrap(err, "label namespace "+namespace.Name)
}

func wrap(err error, doing string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// UserKubeconfig writes a kubeconfig file with which kubectl is a user of a project, in the project's namespace, and
// returns its path. It logs in to Keystone with the user's password, and goes through the proxy. In a lab without tenants
// it impersonates: what the API server learns of the user is what a login with Keystone would tell it.
func (s *Site) UserKubeconfig(user, project string) (string, error) {
	if s.Lab.Tenancy() {
		return s.loginKubeconfig(user, project)
	}
	who, err := s.Cloud.User(user)
	if err != nil {
		return "", err
	}
	where, err := s.Cloud.Project(project)
	if err != nil {
		return "", err
	}
	cluster, err := s.Lab.Cluster(lab.CaaS)
	if err != nil {
		return "", err
	}
	config, err := clientcmd.LoadFromFile(cluster.Kubeconfig())
	if err != nil {
		return "", fmt.Errorf("read kubeconfig: %w", err)
	}
	current := config.Contexts[config.CurrentContext]
	current.Namespace = NamespaceOf(project)
	impersonate(config.AuthInfos[current.AuthInfo], who, where)
	path := s.file("users", fileName(user+"-"+project)+".kubeconfig")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("make directory of kubeconfig files: %w", err)
	}
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("write kubeconfig: %w", err)
	}
	return path, nil
}

func impersonate(info *clientcmdapi.AuthInfo, user openstack.User, project openstack.Project) {
	info.Impersonate, info.ImpersonateUID = user.Name, user.ID
	info.ImpersonateGroups = []string{"osn:authenticated", membersGroup + project.ID}
	info.ImpersonateUserExtra = map[string][]string{
		"osn.infn.it/userid":      {user.ID},
		"osn.infn.it/username":    {user.Name},
		"osn.infn.it/projectid":   {project.ID},
		"osn.infn.it/projectname": {project.Name},
	}
}

// fileName is text with what a file's name should not have replaced.
func fileName(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, text)
}

// Authorize lets the platform act for a user in a project, as the user's login does, unless it may already. It returns
// the id of the trust.
func (s *Site) Authorize(ctx context.Context, user, project string) (trust string, err error) {
	path := s.file("trusts", fileName(user+"-"+project))
	if known, err := os.ReadFile(filepath.Clean(path)); err == nil {
		return string(known), nil
	}
	if trust, err = s.Cloud.Trust(ctx, user, project); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("keep the trust's id: %w", err)
	}
	return trust, wrap(os.WriteFile(path, []byte(trust), 0o600), "keep the trust's id")
}
