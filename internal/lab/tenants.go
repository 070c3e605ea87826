// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cloudveneto/caas/internal/lab/openstack"
)

// What tenants' namespaces and nodes are known by.
const (
	ProjectIDLabel   = "osn.infn.it/projectid"
	ProjectNameLabel = "osn.infn.it/projectname"
	NodePoolLabel    = "osn.infn.it.node-restriction.kubernetes.io/pool"
	membersGroup     = "osn:project:"
	tenantRole       = "mt-tenant"
)

// TenantNamespace is the namespace of a project.
func TenantNamespace(project string) string { return strings.ToLower(project) }

// SharedPool is the value of NodePoolLabel of nodes that a project shares. The lab's own nodes of the CaaS cluster are
// those of the project CMS: its members' pods run there with the annotation osn.infn.it/policy: shared. They have no
// taint, so that pods that an administrator makes run there too.
func (l *Lab) SharedPool(project string) (string, error) {
	keystone, err := l.Keystone()
	if err != nil {
		return "", err
	}
	known, err := keystone.Project(project)
	if err != nil {
		return "", err
	}
	return "p-" + known.ID, nil
}

// giveNodes gives the lab's own nodes of the CaaS cluster to the project CMS.
func (l *Lab) giveNodes(ctx context.Context) error {
	if l.state.NoTenancy {
		return nil
	}
	pool, err := l.SharedPool(openstack.CMS)
	if err != nil {
		return err
	}
	caas, err := l.Cluster(CaaS)
	if err != nil {
		return err
	}
	client, err := caas.client()
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{NodePoolLabel: pool}}})
	if err != nil {
		return fmt.Errorf("label nodes: %w", err)
	}
	for _, n := range l.nodesOf(caas.plan) {
		if _, err := client.CoreV1().Nodes().Patch(ctx, n.name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("label node %s: %w", n.name, err)
		}
	}
	return nil
}

// AddTenantNamespace makes a namespace of a project, or makes one that there is the project's, and lets the project's
// members, and the ServiceAccounts that they own, do there what tenants may.
func (l *Lab) AddTenantNamespace(ctx context.Context, project, namespace string) error {
	keystone, err := l.Keystone()
	if err != nil {
		return err
	}
	known, err := keystone.Project(project)
	if err != nil {
		return err
	}
	caas, err := l.Cluster(CaaS)
	if err != nil {
		return err
	}
	client, err := caas.client()
	if err != nil {
		return err
	}
	labels := map[string]string{ProjectIDLabel: known.ID, ProjectNameLabel: project}
	if err := labelledNamespace(ctx, client, namespace, labels); err != nil {
		return err
	}
	_, err = client.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: tenantRole},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: tenantRole},
		Subjects: []rbacv1.Subject{
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: membersGroup + known.ID},
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:" + namespace},
		},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("let members of %s into namespace %s: %w", project, namespace, err)
	}
	return nil
}

func labelledNamespace(ctx context.Context, client kubernetes.Interface, name string, labels map[string]string) error {
	namespaces := client.CoreV1().Namespaces()
	_, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	if err == nil {
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return fmt.Errorf("label namespace %s: %w", name, err)
	}
	if _, err := namespaces.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("label namespace %s: %w", name, err)
	}
	return nil
}

// insideKeystone is Keystone's URL inside the LAN.
func (l *Lab) insideKeystone() string {
	return "https://" + netip.AddrPortFrom(OpenStackAddress(), keystoneTLSPort).String() + "/v3"
}

// KeystoneURL is Keystone's URL for this machine.
func (l *Lab) KeystoneURL() string { return "https://" + l.hostAddress(keystoneDoor) + "/v3" }

// InsideKeystoneURL is Keystone's URL inside the LAN.
func (l *Lab) InsideKeystoneURL() string { return l.insideKeystone() }

// KeystoneCA is the file with the authority by which both are known.
func (l *Lab) KeystoneCA() string { return l.keystoneFile("ca.crt") }

// Login is a user of Keystone for a project.
type Login struct {
	User, Project string
	// Password is the one that the lab gave the user when empty.
	Password string
	// Namespace is that of the kubeconfig; the project's when empty.
	Namespace string
	// Inside makes the kubeconfig one for processes inside the LAN.
	Inside bool
}

// TenantKubeconfig logs a user in to Keystone and writes a kubeconfig file with the token, which is good for an hour and
// nowhere renewed. The administrator's is Cluster.Kubeconfig.
func (l *Lab) TenantKubeconfig(ctx context.Context, path string, login Login) error {
	keystone, err := l.Keystone()
	if err != nil {
		return err
	}
	if login.Password == "" {
		if login.Password, err = keystone.Password(login.User); err != nil {
			return err
		}
	}
	session, err := keystone.LoginWith(ctx, login.User, login.Password, login.Project)
	if err != nil {
		return err
	}
	config, err := l.tenantConfig(login, clientcmdapi.AuthInfo{Token: session.Token})
	if err != nil {
		return err
	}
	if err := clientcmd.WriteToFile(config, path); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// tenantConfig is a kubeconfig for the CaaS cluster.
func (l *Lab) tenantConfig(login Login, who clientcmdapi.AuthInfo) (clientcmdapi.Config, error) {
	caas, err := l.Cluster(CaaS)
	if err != nil {
		return clientcmdapi.Config{}, err
	}
	server := caas.Server()
	if login.Inside {
		server = caas.InsideServer()
	}
	namespace := login.Namespace
	if namespace == "" {
		namespace = TenantNamespace(login.Project)
	}
	config := *clientcmdapi.NewConfig()
	config.Clusters[CaaS] = &clientcmdapi.Cluster{Server: server, CertificateAuthority: caas.dir("pki", "ca.crt")}
	config.AuthInfos[login.User] = &who
	config.Contexts[CaaS] = &clientcmdapi.Context{Cluster: CaaS, AuthInfo: login.User, Namespace: namespace}
	config.CurrentContext = CaaS
	return config, nil
}
