// SPDX-License-Identifier: Apache-2.0

package login

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/kubeconfig"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// person is who the platform takes somebody for.
type person struct {
	User      string      `json:"user"`
	UID       string      `json:"uid"`
	Project   projectName `json:"project"`
	Namespace string      `json:"namespace"`
	// Projects are all of them, for somebody whose login is for several.
	Projects []projectName `json:"projects,omitempty"`
	// guessed tells that the namespace is by the rule, and not what the server said.
	guessed bool
}

type projectName struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// platform is the API server, as far as logging in needs it.
type platform struct {
	server string
	client *http.Client
	app    *App
}

const longestReview = 1 << 20

func (a *App) platform(server string, ca []byte, o *options) (*platform, error) {
	transport, err := identity.Transport(ca)
	if err != nil {
		return nil, fail(CodeUsage, "certificate authority of %s: %w", server, err)
	}
	return &platform{
		server: strings.TrimSuffix(server, "/"), app: a,
		client: &http.Client{Transport: transport, Timeout: o.timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}, nil
}

// whoami asks the proxy, which knows the namespace, and otherwise the API server itself.
func (p *platform) whoami(ctx context.Context, token string) (person, error) {
	var who person
	status, err := p.ask(ctx, http.MethodGet, "/mt/v1/whoami", token, nil, &who)
	if err != nil {
		return person{}, err
	}
	switch status {
	case http.StatusOK:
		if who.Namespace != "" || len(who.Projects) > 0 {
			return who, nil
		}
	case http.StatusUnauthorized:
		return person{}, fail(CodeProject, "%s does not accept the token; is your project enabled for the platform?", p.server)
	}
	return p.review(ctx, token)
}

// review is Kubernetes' own way to ask. It does not say which namespace is the project's.
func (p *platform) review(ctx context.Context, token string) (person, error) {
	const ask = `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`
	var answer struct {
		Status struct {
			UserInfo struct {
				Username, UID string
				Extra         map[string][]string
			}
		}
	}
	status, err := p.ask(ctx, http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", token, []byte(ask), &answer)
	switch {
	case err != nil:
		return person{}, err
	case status == http.StatusUnauthorized:
		return person{}, fail(CodeProject, "%s does not accept the token; is your project enabled for the platform?", p.server)
	case status/100 != 2:
		return person{}, fail(CodeNetwork, "%s answered with status %d when asked who you are; check the address (-server)", p.server, status)
	}
	user := answer.Status.UserInfo
	one := func(key string) string {
		if values := user.Extra[key]; len(values) == 1 {
			return values[0]
		}
		return ""
	}
	who := person{
		User: user.Username, UID: user.UID, guessed: true,
		Project: projectName{ID: one(tenant.ExtraProjectID), Name: one(tenant.ExtraProjectName)},
	}
	if who.Project.ID != "" && who.Project.Name != "" {
		who.Namespace = namespaceByRule(who.Project)
	}
	return who, nil
}

// namespaceByRule is a project's namespace if no other project has taken it.
func namespaceByRule(project projectName) string {
	return tenant.NamespaceName(tenant.Project{ID: project.ID, Name: project.Name}, func(string) (string, bool) { return "", false })
}

func (p *platform) ask(ctx context.Context, method, path, token string, body []byte, out any) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, method, p.server+path, bytes.NewReader(body))
	if err != nil {
		return 0, fail(CodeUsage, "%q is no address of an API server; want https://host:6443", p.server)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Content-Type", "application/json")
	answer, err := p.client.Do(request)
	if err != nil {
		return 0, identity.Unreachable("the API server", p.server, err, p.app.Now())
	}
	defer func() { _ = answer.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(answer.Body, longestReview))
	if err != nil {
		return 0, identity.Unreachable("the API server", p.server, err, p.app.Now())
	}
	if answer.StatusCode/100 == 2 && json.Unmarshal(data, out) != nil {
		return 0, fail(CodeNetwork, "what answers at %s is not an API server; check the address (-server)", p.server)
	}
	return answer.StatusCode, nil
}

// locate finds out each project's namespace.
func (s *session) locate(ctx context.Context) error {
	server, err := s.platform(s.site.Server, s.ca, s.options)
	if err != nil {
		return err
	}
	for i := range s.places {
		at := &s.places[i]
		who, err := server.whoami(ctx, string(at.token.Value))
		if err != nil {
			return err
		}
		if at.namespace = who.Namespace; at.namespace == "" {
			at.namespace = namespaceByRule(projectName{ID: at.token.Project.ID, Name: at.token.Project.Name})
			who.guessed = true
		}
		if who.guessed {
			s.note("note: the platform does not say which namespace the project %s has; taking %s", at.token.Project.Name, at.namespace)
		}
	}
	return nil
}

// whoami shows who the platform takes the user of a context for.
func (a *App) whoami(ctx context.Context, o *options) error {
	s := &session{App: a, options: o, store: a.kubeconfig(o)}
	view, err := s.store.View()
	if err != nil {
		return s.checked(err)
	}
	name := first(o.context, view.Current)
	if name == "" {
		return fail(CodeUsage, "no context is in use; log in, or name one with -context")
	}
	at, found := view.Context(name)
	if !found {
		return fail(CodeUsage, "the kubeconfig has no context %q", name)
	}
	user, mine := view.User(at.User)
	if !mine {
		return fail(CodeUsage, "the context %s is not of this program; kubectl auth whoami tells who you are there", name)
	}
	cluster, _ := view.Cluster(at.Cluster)
	token, err := a.tokenOf(ctx, user, o)
	if err != nil {
		return err
	}
	server, err := a.platform(cluster.Server, cluster.CA, o)
	if err != nil {
		return err
	}
	who, err := server.whoami(ctx, token)
	if err != nil {
		return err
	}
	return a.print(o, who, func(out io.Writer) {
		_, _ = fmt.Fprintf(out, "User:\t%s\nUser ID:\t%s\nProject:\t%s\nProject ID:\t%s\nNamespace:\t%s\nContext:\t%s\n",
			who.User, who.UID, who.Project.Name, who.Project.ID, first(who.Namespace, at.Namespace), name)
	})
}

// tokenOf is the token of a kubeconfig's user.
func (a *App) tokenOf(ctx context.Context, user kubeconfig.User, o *options) (string, error) {
	if user.Token != "" && user.Token != loggedOut {
		return user.Token, nil
	}
	if user.Exec == nil {
		return "", fail(CodeCredentials, "%s is logged out; log in again", user.Name)
	}
	asked := *o
	asked.credential = user.Name
	token, err := a.kept(ctx, &asked)
	return token.Value, err
}
