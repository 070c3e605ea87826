// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// ListMode says who may list and watch what is not his.
type ListMode string

// ManagerRights say what a manager of a project may do with what its members own. Changing it, Secrets, and getting into pods
// are never among it.
type ManagerRights string

const (
	// ListOwner demands a selector for the caller's own objects.
	ListOwner ListMode = "owner"
	// ListProject lets all members of a project list all that is in it, but for Secrets and the like.
	ListProject ListMode = "project"

	// ManagersNone makes managers members.
	ManagersNone ManagerRights = "none"
	// ManagersView lets them get, list and watch.
	ManagersView ManagerRights = "view"
)

// Options change the rules. The zero value is the strictest.
type Options struct {
	ListMode ListMode      `json:"listMode,omitempty"`
	Managers ManagerRights `json:"managers,omitempty"`
	// Trusted are subject to RBAC only.
	Trusted Trusted `json:"trusted,omitzero"`
	// Sensitive resources are never shown to others than their owner, whatever the other options say. Default: secrets.
	Sensitive []string `json:"sensitive,omitempty"`
}

// Trusted are users and ServiceAccounts that are no tenants, beyond those of the policy: what runs the cluster, and writes
// nothing for tenants.
type Trusted struct {
	Users []string `json:"users,omitempty"`
	// ServiceAccounts are namespace/name; the name may be *.
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`
}

// Complete fills in defaults.
func (o *Options) Complete() {
	if o.ListMode == "" {
		o.ListMode = ListOwner
	}
	if o.Managers == "" {
		o.Managers = ManagersNone
	}
	if o.Sensitive == nil {
		o.Sensitive = []string{"secrets"}
	}
}

// Validate reports all that is wrong.
func (o *Options) Validate() error {
	var problems []error
	if !slices.Contains([]ListMode{ListOwner, ListProject}, o.ListMode) {
		problems = append(problems, fmt.Errorf("listMode: %q: want owner or project", o.ListMode))
	}
	if !slices.Contains([]ManagerRights{ManagersNone, ManagersView}, o.Managers) {
		problems = append(problems, fmt.Errorf("managers: %q: want none or view", o.Managers))
	}
	return errors.Join(append(problems, o.Trusted.validate())...)
}

func (t *Trusted) validate() error {
	var problems []error
	for _, user := range t.Users {
		if user == "" || strings.HasPrefix(user, serviceAccountPrefix) {
			problems = append(problems, fmt.Errorf("trusted.users: %q: want the name of a user; ServiceAccounts have a list of their own", user))
		}
	}
	for _, account := range t.ServiceAccounts {
		namespace, name, ok := strings.Cut(account, "/")
		if !ok || len(validation.IsDNS1123Label(namespace)) > 0 || name != "*" && len(validation.IsDNS1123Subdomain(name)) > 0 {
			problems = append(problems, fmt.Errorf("trusted.serviceAccounts: %q: want namespace/name or namespace/*", account))
		}
	}
	return errors.Join(problems...)
}

func (t *Trusted) serviceAccount(namespace, name string) bool {
	return slices.Contains(t.ServiceAccounts, namespace+"/*") || slices.Contains(t.ServiceAccounts, namespace+"/"+name)
}
