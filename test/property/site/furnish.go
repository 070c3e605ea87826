// SPDX-License-Identifier: Apache-2.0

package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/gorilla/mux"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/lab/manifest"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/mtconfig"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	tenantRole     = "mt-tenant"
	defaultAccount = "default"
	settleTimeout  = time.Minute
	settleInterval = 50 * time.Millisecond
)

// User is a tenant as kube-mt-authn describes one to the API server, a member of projects.
func User(name, id string, projects ...tenant.Project) tenant.User {
	user := tenant.User{
		Name: name, UID: id, Groups: []string{tenant.GroupAuthenticated},
		Extra: map[string][]string{tenant.ExtraUserID: {id}, tenant.ExtraUserName: {name}},
	}
	for i, project := range projects {
		user.Groups = append(user.Groups, tenant.ProjectGroup(project.ID), tenant.RoleGroup(project.ID, "member"))
		if i == 0 {
			user.Extra[tenant.ExtraProjectID], user.Extra[tenant.ExtraProjectName] = []string{project.ID}, []string{project.Name}
		}
	}
	return user
}

// answerReviews serves TokenReviews where kube-mt-authn would.
func (s *Site) answerReviews(ctx context.Context) error {
	router := mux.NewRouter()
	router.HandleFunc("/authenticate", s.review).Methods(http.MethodPost)
	server, err := httpserver.New(httpserver.Config{
		Name: "tokens", Address: s.addresses[Authn], Handler: router, GracePeriod: time.Second,
		TLS: &httpserver.TLS{
			CertFile: s.Path("authn.crt"), KeyFile: s.Path("authn.key"), ClientCAFile: s.Path("ca.crt"), RequireClientCert: true,
		},
	})
	if err != nil {
		return err
	}
	s.serving.Go(func() {
		if err := server.Run(ctx); err != nil {
			logging.From(ctx).ErrorContext(ctx, "token reviews have ended", "error", err)
		}
	})
	return nil
}

func (s *Site) review(w http.ResponseWriter, r *http.Request) {
	review := authenticationv1.TokenReview{}
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	user, known := s.cfg.Users[review.Spec.Token]
	review.Spec.Token = ""
	review.Status = authenticationv1.TokenReviewStatus{Authenticated: known}
	if known {
		extra := map[string]authenticationv1.ExtraValue{}
		for key, values := range user.Extra {
			extra[key] = values
		}
		review.Status.User = authenticationv1.UserInfo{Username: user.Name, UID: user.UID, Groups: user.Groups, Extra: extra}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(review); err != nil {
		return // half an answer is none to the API server
	}
}

// furnish gives the webhooks their rights, the projects their namespaces, starts the programs and has them asked.
func (s *Site) furnish(ctx context.Context) error {
	manifests, all := os.DirFS(s.installed.Directory), mtconfig.Manifests()
	if err := manifest.Apply(ctx, s.admin, manifests, mtconfig.RightsFile, mtconfig.TenantRoleFile); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(s.admin)
	if err != nil {
		return err
	}
	for namespace, project := range s.cfg.Projects {
		if err := addNamespace(ctx, client, namespace, project); err != nil {
			return fmt.Errorf("add namespace %s: %w", namespace, err)
		}
	}
	if _, err := s.StartProgram(ctx, Admission); err != nil {
		return err
	}
	if err := manifest.Apply(ctx, s.admin, manifests, all[len(all)-2:]...); err != nil {
		return err
	}
	if s.cfg.Late {
		return nil
	}
	if _, err := s.StartProgram(ctx, Authz); err != nil {
		return err
	}
	return s.AwaitAdmission(ctx)
}

func addNamespace(ctx context.Context, client *kubernetes.Clientset, name string, project tenant.Project) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if project.ID != "" {
		namespace.Labels = map[string]string{
			tenant.LabelProjectID: project.ID, tenant.LabelProjectName: tenant.LabelName(project.Name),
			"pod-security.kubernetes.io/enforce": "baseline",
		}
	}
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	// Without a controller-manager nobody else makes it, and pods need it.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: defaultAccount}}
	if _, err := client.CoreV1().ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if project.ID == "" {
		return nil
	}
	_, err := client.RbacV1().RoleBindings(name).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: tenantRole},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: tenantRole},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: tenant.ProjectGroup(project.ID)}},
	}, metav1.CreateOptions{})
	return err
}

// AwaitAdmission returns when the API server asks the webhooks about a member's change in each project.
func (s *Site) AwaitAdmission(ctx context.Context) error {
	for namespace, project := range s.cfg.Projects {
		for token, user := range s.cfg.Users {
			if identity := tenant.IdentityOf(user); identity.MemberOf(project.ID) {
				if err := s.awaitAdmission(ctx, token, identity.Owner, namespace); err != nil {
					return err
				}
				break
			}
		}
	}
	return nil
}

func (s *Site) awaitAdmission(ctx context.Context, token, owner, namespace string) error {
	client, err := kubernetes.NewForConfig(s.As(token))
	if err != nil {
		return err
	}
	var last error
	try := func(labels map[string]string) (*corev1.ConfigMap, error) {
		return client.CoreV1().ConfigMaps(namespace).Create(ctx,
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "trial", Labels: labels}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	}
	err = Await(ctx, settleTimeout, settleInterval, "admission in "+namespace, func() (bool, error) {
		made, err := try(nil)
		if err != nil || tenant.OwnerOf(made.Labels).UserID != owner {
			last = err
			return false, nil //nolint:nilerr // it is tried again, and the last error told in the end
		}
		_, last = try(map[string]string{tenant.Prefix + "unknown": "x"})
		return apierrors.IsForbidden(last), nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}
