// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

// visit gets a token for each project that is asked for.
func (s *session) visit(ctx context.Context, home identity.Token, scope identity.Scope) error {
	if s.who.IsApplicationCredential() {
		return s.only(home)
	}
	all, err := s.client.Projects(ctx, home.Value)
	if err != nil {
		return err
	}
	chosen, err := s.choose(ctx, all, home, scope)
	if err != nil {
		return err
	}
	for _, project := range chosen {
		token, err := s.client.Login(ctx, identity.Credential{Token: home.Value}, identity.Scope{ProjectID: project.ID})
		if identity.Is(err, identity.Unauthorized) || identity.Is(err, identity.Forbidden) {
			return fail(CodeProject, "Keystone gives no token for the project %s: you have no role in it, or it is disabled", project.Name)
		}
		if err != nil {
			return err
		}
		s.places = append(s.places, place{token: token})
	}
	return nil
}

// only is for application credentials: they are for one project.
func (s *session) only(token identity.Token) error {
	for _, wanted := range s.options.projects {
		if !strings.EqualFold(wanted, token.Project.Name) && wanted != token.Project.ID {
			return fail(CodeProject, "the application credential is for the project %s, not for %s", token.Project.Name, wanted)
		}
	}
	s.places = []place{{token: token}}
	return nil
}

// choose finds the projects that are asked for among the user's.
func (s *session) choose(ctx context.Context, all []identity.Project, home identity.Token, scope identity.Scope) ([]identity.Project, error) {
	if len(all) == 0 {
		return nil, fail(CodeProject, "%s is in no project; ask your project's administrator to be added", home.User.Name)
	}
	slices.SortFunc(all, func(a, b identity.Project) int { return strings.Compare(a.Name, b.Name) })
	if s.options.allProjects {
		return all, nil
	}
	wanted, err := s.wanted(ctx, all, scope)
	if err != nil {
		return nil, err
	}
	domain := first(scope.DomainID, home.User.Domain.ID)
	var chosen []identity.Project
	for _, name := range wanted {
		one, err := match(all, name, domain)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(chosen, one) {
			chosen = append(chosen, one)
		}
	}
	return chosen, nil
}

// wanted are the names of the projects to log in to.
func (s *session) wanted(ctx context.Context, all []identity.Project, scope identity.Scope) ([]string, error) {
	switch {
	case len(s.options.projects) > 0:
		return s.options.projects, nil
	case scope.ProjectID+scope.ProjectName != "":
		return []string{first(scope.ProjectID, scope.ProjectName)}, nil
	case len(all) == 1:
		return []string{all[0].ID}, nil
	case !s.Terminal.Interactive():
		return nil, fail(CodeUsage, "which project? give it with -project, or -all-projects; yours are %s", names(all))
	}
	answer, err := s.Terminal.Line(ctx, "Project ("+names(all)+"): ", false)
	return []string{strings.TrimSpace(answer)}, err
}

// match finds one project by id, by name, or by a name that differs in capitals only.
func match(all []identity.Project, wanted, domain string) (identity.Project, error) {
	for _, same := range []func(identity.Project) bool{
		func(p identity.Project) bool { return p.ID == wanted },
		func(p identity.Project) bool { return p.Name == wanted && p.DomainID == domain },
		func(p identity.Project) bool { return p.Name == wanted },
		func(p identity.Project) bool { return strings.EqualFold(p.Name, wanted) },
	} {
		var found []identity.Project
		for _, one := range all {
			if same(one) {
				found = append(found, one)
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return identity.Project{}, fail(CodeProject, "there is more than one project %s; give the id of yours: %s", wanted, ids(found))
		}
	}
	return identity.Project{}, fail(CodeProject, "you are in no project %q; your projects are %s", wanted, names(all))
}

func names(all []identity.Project) string {
	var list []string
	for _, one := range all {
		list = append(list, one.Name)
	}
	return strings.Join(list, ", ")
}

func ids(all []identity.Project) string {
	var list []string
	for _, one := range all {
		list = append(list, one.ID)
	}
	return strings.Join(list, ", ")
}

// projects lists the user's projects, with the contexts that are for them.
func (a *App) projects(ctx context.Context, o *options) error {
	site, err := a.site()
	if err != nil {
		return err
	}
	found, err := a.settings(&site, o)
	if err != nil {
		return err
	}
	s := &session{App: a, options: o, site: site, store: a.kubeconfig(o)}
	view, err := s.store.View()
	if err != nil {
		return s.checked(err)
	}
	token, client, done, err := s.ready(ctx, view, found)
	if err != nil {
		return err
	}
	defer done()
	all, err := client.Projects(ctx, token.Value)
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b identity.Project) int { return strings.Compare(a.Name, b.Name) })
	type row struct {
		Name    string `json:"name"`
		ID      string `json:"id"`
		Context string `json:"context,omitempty"`
	}
	rows := make([]row, 0, len(all))
	for _, project := range all {
		one := row{Name: project.Name, ID: project.ID}
		for _, at := range view.Contexts {
			if user, mine := view.User(at.User); mine && user.Mark.ProjectID == project.ID {
				one.Context = at.Name
			}
		}
		rows = append(rows, one)
	}
	return a.print(o, rows, func(out io.Writer) {
		_, _ = fmt.Fprintln(out, "PROJECT\tID\tCONTEXT")
		for _, one := range rows {
			_, _ = fmt.Fprintf(out, "%s\t%s\t%s\n", one.Name, one.ID, first(one.Context, "-"))
		}
	})
}

// print writes JSON, or a table.
func (a *App) print(o *options, data any, table func(out io.Writer)) error {
	switch o.output {
	case "json":
		encoder := json.NewEncoder(a.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(data)
	case "":
		out := tabwriter.NewWriter(a.Out, 0, 8, 3, ' ', 0)
		table(out)
		return out.Flush()
	default:
		return fail(CodeUsage, "-o=%s is not known; json is", o.output)
	}
}
