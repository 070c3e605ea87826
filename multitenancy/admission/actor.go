// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// role is what a requester is to this webhook.
type role int

const (
	// roleUnasked are administrators, and everybody where no tenants are.
	roleUnasked role = iota
	// roleTenant is a user of the project, or a ServiceAccount of one.
	roleTenant
	// roleController makes objects for others.
	roleController
	// roleOperator is a controller that also writes the platform's labels.
	roleOperator
	// roleNode is a kubelet, whose machine a user is root on.
	roleNode
	// roleStranger has no business in a project's namespace.
	roleStranger
)

func (r role) String() string {
	return [...]string{"unasked", "tenant", "controller", "operator", "node", "stranger"}[r]
}

// actor is who makes a request, as far as it matters.
type actor struct {
	role role
	// name is the user's name, for the messages of operators and nodes.
	name string
	// owner and ownerName are a tenant's.
	owner, ownerName string
	// projectName is what the login calls the project.
	projectName string
	// binds tells that the actor may bind pods to nodes.
	binds bool
	// why says what a stranger is told.
	why string
}

// trusted tells that objects which the actor makes belong to others.
func (a actor) trusted() bool { return a.role == roleController || a.role == roleOperator }

func user(info authenticationv1.UserInfo) tenant.User {
	extra := make(map[string][]string, len(info.Extra))
	for key, values := range info.Extra {
		extra[key] = values
	}
	return tenant.User{Name: info.Username, UID: info.UID, Groups: info.Groups, Extra: extra}
}

// exempt tells that nobody is to be asked: an administrator can change this webhook, too.
func (a *Admitter) exempt(info authenticationv1.UserInfo) bool {
	return a.policy.Identity(user(info)).Kind == tenant.Admin || info.Username == "system:apiserver" // no login makes such names
}

// actor finds out in whose name the request is made.
func (a *Admitter) actor(ctx context.Context, r *review) (actor, error) {
	name, who := r.UserInfo.Username, user(r.UserInfo)
	binds := who.Among(a.rules.Schedulers)
	switch {
	case a.policy.Trusted(who):
		return actor{role: roleOperator, name: name, binds: binds}, nil
	case binds, who.Among(a.rules.Controllers):
		return actor{role: roleController, name: name, binds: binds}, nil
	}
	identity := a.policy.Identity(who)
	switch identity.Kind {
	case tenant.Node:
		return actor{role: roleNode, name: name}, nil
	case tenant.Tenant:
		if !identity.MemberOf(r.project.ProjectID) {
			return stranger("%s is not a member of the project of the namespace %s", name, r.Namespace), nil
		}
		return actor{
			role: roleTenant, name: name, owner: identity.Owner, ownerName: tenant.LabelName(identity.OwnerName),
			projectName: projectName(identity, r.project),
		}, nil
	case tenant.ServiceAccount:
		return a.serviceAccount(ctx, r, identity)
	case tenant.ControlPlane, tenant.Admin, tenant.Stranger:
	}
	return stranger("%s may not change objects in the project namespace %s", name, r.Namespace), nil
}

func stranger(format string, args ...any) actor {
	return actor{role: roleStranger, why: fmt.Sprintf(format, args...)}
}

// projectName is what the login or else the namespace says.
func projectName(identity tenant.Identity, project Project) string {
	if known, ok := identity.Project(project.ProjectID); ok && known.Name != "" {
		return tenant.LabelName(known.Name)
	}
	return project.ProjectName
}

// serviceAccount acts for the owner of the ServiceAccount object. The UID tells it from an
// earlier one of the same name.
func (a *Admitter) serviceAccount(ctx context.Context, r *review, identity tenant.Identity) (actor, error) {
	name := r.UserInfo.Username
	switch {
	case identity.Namespace != r.Namespace:
		return stranger("%s may not change objects in the project namespace %s", name, r.Namespace), nil
	case identity.ServiceAccount == defaultServiceAccount:
		return stranger("the ServiceAccount %s is nobody's and has no rights", defaultServiceAccount), nil
	}
	account, err := a.find(ctx, Key{Resource: serviceAccounts, Namespace: identity.Namespace, Name: identity.ServiceAccount})
	if err != nil {
		return actor{}, err
	}
	if account == nil || string(account.UID) != r.UserInfo.UID || account.Owner.UserID == "" {
		return stranger("the ServiceAccount %s has no owner", identity.ServiceAccount), nil
	}
	return actor{
		role: roleTenant, name: name, owner: account.Owner.UserID, ownerName: account.OwnerName, projectName: r.project.ProjectName,
	}, nil
}
