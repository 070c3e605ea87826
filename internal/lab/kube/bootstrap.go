// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// bootstrappersGroup is the group that kubeadm gives to joining nodes.
	bootstrappersGroup = "system:bootstrappers:kubeadm:default-node-token"
	nodesGroup         = "system:nodes"

	tokenIDLength, tokenSecretLength = 6, 16
)

// NewToken makes a bootstrap token.
func NewToken() (string, error) {
	random := make([]byte, (tokenIDLength+tokenSecretLength)/2)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("make bootstrap token: %w", err)
	}
	text := hex.EncodeToString(random)
	return text[:tokenIDLength] + "." + text[tokenIDLength:], nil
}

// BootstrapUser is the user that a bootstrap token stands for.
func BootstrapUser(token string) string {
	id, _, _ := strings.Cut(token, ".")
	return "system:bootstrap:" + id
}

// AllowBootstrap makes what nodes need to join with the token: the token itself, and the rights to ask for a client
// certificate and to have it renewed. The first one is for an Approver to approve: kubeadm's rule that every request of a
// bootstrapper is approved is not made. What exists already is left as it is.
func AllowBootstrap(ctx context.Context, client kubernetes.Interface, token string) error {
	id, secret, ok := strings.Cut(token, ".")
	if !ok || len(id) != tokenIDLength || len(secret) != tokenSecretLength {
		return fmt.Errorf("a bootstrap token has %d characters, a dot, and %d more", tokenIDLength, tokenSecretLength)
	}
	_, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": id, "token-secret": secret, "auth-extra-groups": bootstrappersGroup,
			"usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
		},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create bootstrap token: %w", err)
	}
	const csr = "system:certificates.k8s.io:certificatesigningrequests:"
	for _, grant := range []struct{ name, role, group string }{
		{"kubeadm:kubelet-bootstrap", "system:node-bootstrapper", bootstrappersGroup},
		{"kubeadm:node-autoapprove-certificate-rotation", csr + "selfnodeclient", nodesGroup},
	} {
		_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: grant.name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: grant.role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: grant.group}},
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create ClusterRoleBinding %s: %w", grant.name, err)
		}
	}
	return nil
}
