// SPDX-License-Identifier: Apache-2.0

package tenants

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	// AnnotationGone has the time at which a namespace's project was found to be gone.
	AnnotationGone = tenant.Prefix + "project-gone"
	// AnnotationManaged with the value false keeps the controller's hands off a namespace.
	AnnotationManaged = tenant.Prefix + "managed"

	reasonCreated = "ProjectNamespaceCreated"
	reasonGone    = "ProjectGone"
	reasonBack    = "ProjectBack"

	// whileEnding is how long to wait for a namespace that is being deleted.
	whileEnding = 5 * time.Second
	// creations is how often a name may be taken by somebody else in the meantime.
	creations = 5
)

// reconcile makes a project's namespaces complete, and one if it is wanted and there is none. While one is being deleted,
// it returns when to come again.
func (c *Controller) reconcile(ctx context.Context, project tenant.Project, wanted bool) (time.Duration, error) {
	namespaces, err := c.namespaces(ctx, project)
	if err != nil {
		return 0, err
	}
	if len(namespaces) == 0 && wanted {
		made, err := c.create(ctx, project)
		if err != nil {
			return 0, err
		}
		namespaces = append(namespaces, *made)
	}
	var again time.Duration
	var problems []error
	for _, namespace := range namespaces {
		switch {
		case unmanaged(&namespace):
		case namespace.DeletionTimestamp != nil:
			again = whileEnding
		default:
			problems = append(problems, c.complete(ctx, &namespace, project))
		}
	}
	return again, errors.Join(problems...)
}

// namespaces are those that have the project's label, whatever they are called.
func (c *Controller) namespaces(ctx context.Context, project tenant.Project) ([]corev1.Namespace, error) {
	list, err := c.cfg.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: tenant.LabelProjectID + "=" + project.ID})
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	return slices.DeleteFunc(list.Items, func(namespace corev1.Namespace) bool {
		return !tenant.NamespaceOf(namespace.Name, namespace.Labels).Tenant
	}), nil
}

// create makes the namespace under the best name that nobody else has.
func (c *Controller) create(ctx context.Context, project tenant.Project) (*corev1.Namespace, error) {
	for range creations {
		name, err := c.freeName(ctx, project)
		if err != nil {
			return nil, err
		}
		labels := map[string]string{tenant.LabelProjectID: project.ID, tenant.LabelProjectName: tenant.LabelName(project.Name)}
		maps.Copy(labels, c.cfg.Labels)
		made, err := c.cfg.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		}, metav1.CreateOptions{FieldManager: component})
		if err == nil {
			logging.From(ctx).InfoContext(ctx, "namespace created", "namespace", name, "project", project.ID, "projectName", project.Name)
			c.events.Eventf(made, corev1.EventTypeNormal, reasonCreated, "for project %s (%s)", project.Name, project.ID)
			return made, nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("create namespace %s: %w", name, err)
		}
		// Another process has been faster: for this project, or for one of the same name.
		namespaces, err := c.namespaces(ctx, project)
		if err != nil {
			return nil, err
		}
		if len(namespaces) > 0 {
			return &namespaces[0], nil
		}
	}
	return nil, errors.New("names of namespaces are taken faster than they are found free")
}

func (c *Controller) freeName(ctx context.Context, project tenant.Project) (string, error) {
	var failure error
	name := tenant.NamespaceName(project, func(name string) (string, bool) {
		if slices.Contains(c.cfg.Reserved, name) {
			return "", true
		}
		namespace, err := c.cfg.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return "", false
		case err != nil:
			failure = fmt.Errorf("look namespace %s up: %w", name, err)
			return "", true
		default:
			return tenant.NamespaceOf(name, namespace.Labels).ProjectID, true
		}
	})
	return name, failure
}

// complete adds what a namespace lacks.
func (c *Controller) complete(ctx context.Context, namespace *corev1.Namespace, project tenant.Project) error {
	var problems []error
	for _, role := range c.cfg.Roles {
		if err := c.bind(ctx, namespace.Name, project, role); err != nil {
			problems = append(problems, fmt.Errorf("bind %s in %s: %w", role, namespace.Name, err))
		}
	}
	problems = append(problems, c.cfg.Templates.ensure(ctx, c.cfg.Client, namespace.Name))
	return errors.Join(problems...)
}

// bind lets the members and their robots in. What else an administrator has bound to the same name stays.
func (c *Controller) bind(ctx context.Context, namespace string, project tenant.Project, role string) error {
	_, err := c.cfg.Client.RbacV1().ClusterRoles().Get(ctx, role, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	want := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects: []rbacv1.Subject{
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: tenant.ProjectGroup(project.ID)},
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:" + namespace},
		},
	}
	bindings := c.cfg.Client.RbacV1().RoleBindings(namespace)
	_, err = bindings.Create(ctx, want, metav1.CreateOptions{FieldManager: component})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	have, err := bindings.Get(ctx, role, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if have.RoleRef != want.RoleRef {
		return fmt.Errorf("the RoleBinding is of %s %s", have.RoleRef.Kind, have.RoleRef.Name)
	}
	missing := slices.DeleteFunc(want.Subjects, func(subject rbacv1.Subject) bool { return slices.Contains(have.Subjects, subject) })
	if len(missing) == 0 {
		return nil
	}
	have.Subjects = append(have.Subjects, missing...)
	_, err = bindings.Update(ctx, have, metav1.UpdateOptions{FieldManager: component}) // fails if it has changed since
	return err
}
