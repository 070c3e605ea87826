// SPDX-License-Identifier: Apache-2.0

package tenants

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// Directory knows which projects there are.
type Directory interface {
	// Exists says whether there is a project with that id. An error means that it cannot be told. It MUST end soon
	// after ctx.
	Exists(ctx context.Context, projectID string) (bool, error)
}

// Config says what namespaces have. Client is required.
type Config struct {
	// Client has the rights of deploy/kube-mt-authn/tenants-rbac.yaml.
	Client kubernetes.Interface
	// Projects have a namespace before anybody logs in.
	Projects []tenant.Project
	// Roles are the ClusterRoles that members and their ServiceAccounts have in their namespace. Those that there are none
	// of are left out. Default: mt-tenant and osnode-tenant.
	Roles []string
	// Labels are those of new namespaces. Default: Pod Security's level baseline.
	Labels map[string]string
	// Reserved are names that no project's namespace gets, beside those of Kubernetes and the platform.
	Reserved []string
	// Templates are what each namespace has beside bindings.
	Templates Templates
	// Directory, when not nil, is asked whether projects still exist.
	Directory Directory
	// Resync is how often all namespaces are looked at; 10 min when zero.
	Resync time.Duration
	// Metrics, when not nil, registers what is counted.
	Metrics prometheus.Registerer
}

const podSecurityPrefix = "pod-security.kubernetes.io/"

func (c *Config) complete() {
	if c.Roles == nil {
		c.Roles = []string{"mt-tenant", "osnode-tenant"}
	}
	if c.Labels == nil {
		c.Labels = map[string]string{podSecurityPrefix + "enforce": "baseline", podSecurityPrefix + "warn": "restricted"}
	}
	if c.Resync <= 0 {
		c.Resync = 10 * time.Minute
	}
}

// Validate reports all that is wrong.
func (c *Config) Validate() error {
	var problems []error
	for at, project := range c.Projects {
		if project.ID == "" || project.ID != tenant.EncodeID(project.ID) && !strings.HasPrefix(project.ID, "h-") {
			problems = append(problems, fmt.Errorf("projects[%d]: id %q: want a project's id as in labels", at, project.ID))
		}
		if project.Name == "" {
			problems = append(problems, fmt.Errorf("projects[%d]: name is required: the namespace is called by it", at))
		}
	}
	if slices.Contains(c.Roles, "") {
		problems = append(problems, errors.New("roles: a name is empty"))
	}
	for _, problem := range metav1validation.ValidateLabels(c.Labels, field.NewPath("labels")) {
		problems = append(problems, problem)
	}
	for key := range c.Labels {
		if strings.HasPrefix(key, tenant.Prefix) {
			problems = append(problems, fmt.Errorf("labels: %s is the platform's", key))
		}
	}
	for _, name := range c.Reserved {
		if len(validation.IsDNS1123Label(name)) > 0 {
			problems = append(problems, fmt.Errorf("reserved: %q is no name of a namespace", name))
		}
	}
	return errors.Join(problems...)
}
