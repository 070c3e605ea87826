// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/multitenancy/tenants"
)

// tenantsFile says how projects get their namespaces. Without it somebody else makes them.
type tenantsFile struct {
	// Kubeconfig is for making namespaces; empty for the ServiceAccount of the pod it runs in.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// Projects have a namespace before anybody logs in.
	Projects []namedProject `json:"projects,omitempty"`
	// Roles are the ClusterRoles that members have in their namespace.
	Roles []string `json:"roles,omitempty"`
	// Labels are those of new namespaces.
	Labels map[string]string `json:"labels,omitempty"`
	// ReservedNames are names that no namespace of a project gets.
	ReservedNames []string `json:"reservedNames,omitempty"`
	// Templates are files with ResourceQuotas, LimitRanges and NetworkPolicies that each namespace gets.
	Templates []string        `json:"templates,omitempty"`
	Resync    metav1.Duration `json:"resync,omitzero"`

	config tenants.Config
}

type namedProject struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// complete makes the package's configuration, but for the client.
func (t *tenantsFile) complete() error {
	t.config = tenants.Config{Roles: t.Roles, Labels: t.Labels, Reserved: t.ReservedNames, Resync: t.Resync.Duration}
	for _, project := range t.Projects {
		t.config.Projects = append(t.config.Projects, tenant.Project(project))
	}
	problems := []error{t.config.Validate()}
	if t.Resync.Duration < 0 {
		problems = append(problems, errors.New("resync must not be negative"))
	}
	for _, name := range t.Templates {
		content, err := os.ReadFile(filepath.Clean(name))
		if err != nil {
			problems = append(problems, fmt.Errorf("templates: %w", err))
			continue
		}
		templates, err := tenants.ParseTemplates(content)
		if err != nil {
			problems = append(problems, fmt.Errorf("templates: %s: %w", name, err))
		}
		t.config.Templates.Quotas = append(t.config.Templates.Quotas, templates.Quotas...)
		t.config.Templates.Limits = append(t.config.Templates.Limits, templates.Limits...)
		t.config.Templates.Policies = append(t.config.Templates.Policies, templates.Policies...)
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("tenants: %w", err)
	}
	return nil
}

// controller makes namespaces for the projects whose members log in.
func (t *tenantsFile) controller(directory tenants.Directory, registry prometheus.Registerer) (*tenants.Controller, error) {
	reach, err := clientcmd.BuildConfigFromFlags("", t.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("tenants: cluster: %w", err)
	}
	reach.QPS, reach.Burst = 50, 100
	reach.UserAgent = program
	reach.Wrap(telemetry.Transport)
	config := t.config
	if config.Client, err = kubernetes.NewForConfig(reach); err != nil {
		return nil, fmt.Errorf("tenants: cluster: %w", err)
	}
	config.Directory, config.Metrics = directory, registry
	return tenants.New(config)
}

// newTenants returns nil if the file does not ask for it.
func (p providers) newTenants(settings *file, registry prometheus.Registerer) (*tenants.Controller, error) {
	if settings.Tenants == nil {
		return nil, nil //nolint:nilnil // there may be none
	}
	// A nil pointer in an interface would look like a directory.
	if p.keystone == nil || settings.Keystone.Service == nil {
		return settings.Tenants.controller(nil, registry)
	}
	return settings.Tenants.controller(p.keystone, registry)
}

// runTenants waits for the controller's end.
func runTenants(controller *tenants.Controller) func(context.Context) error {
	return func(ctx context.Context) error {
		if controller == nil {
			return nil
		}
		return controller.Run(ctx)
	}
}
