// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// PathWhoAmI is where the proxy says who has a token.
const PathWhoAmI = "/mt/v1/whoami"

// WhoAmI is what it says.
type WhoAmI struct {
	User string `json:"user"`
	UID  string `json:"uid"`
	// Project is the one that the login is for, if it is for one, and Namespace is that project's.
	Project   *Project  `json:"project,omitempty"`
	Projects  []Project `json:"projects"`
	Namespace string    `json:"namespace,omitempty"`
}

// Project is one that the user is a member of.
type Project struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// whoAmI answers with the caller's user and namespace.
func (p *Proxy) whoAmI(w http.ResponseWriter, r *http.Request) {
	token := bearer(r.Header)
	if token == "" {
		refuse(w, noToken())
		return
	}
	ctx := r.Context()
	who, err := p.callers.of(ctx, token)
	if err != nil {
		p.refuseCaller(ctx, w, err)
		return
	}
	answer := WhoAmI{User: who.user.Name, UID: who.user.UID, Projects: []Project{}, Namespace: who.namespace}
	for _, project := range who.projects {
		answer.Projects = append(answer.Projects, Project(project))
	}
	current, chosen := currentProject(who)
	if !chosen {
		reply(w, http.StatusOK, answer)
		return
	}
	answer.Project = new(Project(current))
	if answer.Namespace == "" {
		if answer.Namespace, err = p.namespace(ctx, token, current); err != nil {
			p.refuseCaller(ctx, w, err)
			return
		}
	}
	if answer.Namespace == "" {
		refuse(w, beingMade(current))
		return
	}
	reply(w, http.StatusOK, answer)
}

// currentProject is the one that the login was made for, which is the only one whose name is known.
func currentProject(who *caller) (tenant.Project, bool) {
	if len(who.projects) == 1 {
		return who.projects[0], true
	}
	at := slices.IndexFunc(who.projects, func(project tenant.Project) bool { return project.Name != "" })
	if at < 0 {
		return tenant.Project{}, false
	}
	return who.projects[at], true
}

// beingMade is for the first member of a project who logs in.
func beingMade(project tenant.Project) *apierrors.StatusError {
	name := project.Name
	if name == "" {
		name = project.ID
	}
	problem := apierrors.NewGenericServerResponse(http.StatusNotFound, "", notFoundResource(), "",
		"the namespace of project "+name+" is being made; try again in a few seconds", 2, false)
	problem.ErrStatus.Message = "the namespace of project " + name + " is being made; try again in a few seconds"
	return problem
}

// namespace is that of a project, and empty if there is none that the user sees. The names that it may have are tried:
// the user may get its own namespace, and list none.
func (p *Proxy) namespace(ctx context.Context, token string, project tenant.Project) (string, error) {
	var failure error
	found := ""
	tenant.NamespaceName(project, func(name string) (string, bool) {
		if found != "" || failure != nil {
			return "", false
		}
		var namespace metav1.PartialObjectMetadata
		err := p.asker.ask(ctx, token, http.MethodGet, namespacePath(name), nil, &namespace)
		switch answered(err) {
		case http.StatusForbidden, http.StatusNotFound:
			return "", false // somebody else's, or nobody's: which of the two, one is not told
		}
		if err != nil {
			failure = err
			return "", false
		}
		mine := tenant.NamespaceOf(namespace.Name, namespace.Labels)
		if mine.Tenant && mine.ProjectID == project.ID {
			found = name
		}
		return mine.ProjectID, true
	})
	return found, failure
}

func (p *Proxy) refuseCaller(ctx context.Context, w http.ResponseWriter, err error) {
	switch answered(err) {
	case http.StatusUnauthorized:
		refuse(w, apierrors.NewUnauthorized("the API server does not know this token, or it has ended; log in again"))
		return
	case http.StatusTooManyRequests:
		refuse(w, apierrors.NewTooManyRequests("the API server is busy; try again", 1))
		return
	}
	if ctx.Err() != nil {
		return // nobody is left to be told
	}
	logging.From(ctx).WarnContext(ctx, "caller cannot be found out", "error", err)
	refuse(w, unavailable("the API server cannot be asked who you are; try again", true))
}
