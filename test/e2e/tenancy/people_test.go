// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/cloudveneto/caas/internal/lab/openstack"
)

// addPeople makes the users: Alice and Bob in CMS, Carol and Dave in QST, Alice in both, and Mona, who manages CMS.
func (w *world) addPeople(ctx context.Context) error {
	for name, projects := range map[string][]string{
		"alice": {openstack.CMS, openstack.QST}, "bob": {openstack.CMS}, "mona": {openstack.CMS}, "carol": {openstack.QST}, "dave": {openstack.QST},
	} {
		if _, err := w.keystone.AddUser(ctx, name, projects...); err != nil {
			return err
		}
	}
	if err := w.assign(ctx, "mona", openstack.CMS, "manager"); err != nil {
		return err
	}
	for _, one := range []struct {
		who           *person
		name, project string
	}{
		{&w.alice, "alice", openstack.CMS},
		{&w.twin, "alice", openstack.QST},
		{&w.bob, "bob", openstack.CMS},
		{&w.mona, "mona", openstack.CMS},
		{&w.carol, "carol", openstack.QST},
		{&w.dave, "dave", openstack.QST},
	} {
		made, err := w.login(ctx, one.name, one.project)
		if err != nil {
			return err
		}
		*one.who = made
	}
	return nil
}

// login is a user of Keystone with a new token for a project, who comes directly.
func (w *world) login(ctx context.Context, user, project string) (person, error) {
	session, err := w.keystone.Login(ctx, user, project)
	if err != nil {
		return person{}, err
	}
	return person{
		world: w, name: user, id: session.UserID, token: session.Token, project: session.ProjectID,
		namespace: strings.ToLower(project), server: w.direct, client: w.client(),
	}, nil
}

// bearer is somebody who has a token and is known by nothing else.
func (w *world) bearer(name, token string) person {
	return person{world: w, name: name, token: token, namespace: cms, server: w.direct, client: w.client()}
}

type object = map[string]any

// identity is a request to Keystone's administration.
func (w *world) identity(ctx context.Context, method, path string, in, out any) error {
	admin, err := w.keystone.Admin(ctx)
	if err != nil {
		return err
	}
	err = admin.Do(ctx, method, "identity", path, in, out)
	for range 3 {
		if !errors.Is(err, io.EOF) {
			break
		}
		err = admin.Do(ctx, method, "identity", path, in, out) // Keystone had just closed the connection for being idle
	}
	return err
}

// found is the id of the first of Keystone's objects in a list.
func (w *world) found(ctx context.Context, plural, query string) (string, error) {
	var list map[string]any
	if err := w.identity(ctx, http.MethodGet, "/"+plural+"?"+query, nil, &list); err != nil {
		return "", err
	}
	all, _ := list[plural].([]any)
	if len(all) == 0 {
		return "", fmt.Errorf("Keystone has no %s with %s", plural, query)
	}
	one, _ := all[0].(map[string]any)
	id, _ := one["id"].(string)
	return id, nil
}

// made makes one of Keystone's objects, unless there is one of that name.
func (w *world) made(ctx context.Context, singular string, with object) (string, error) {
	plural := singular + "s"
	query := "name=" + url.QueryEscape(fmt.Sprint(with["name"]))
	if domain, given := with["domain_id"].(string); given {
		query += "&domain_id=" + domain
	}
	if id, err := w.found(ctx, plural, query); err == nil {
		return id, nil
	}
	var out map[string]struct {
		ID string `json:"id"`
	}
	if err := w.identity(ctx, http.MethodPost, "/"+plural, object{singular: with}, &out); err != nil {
		return "", err
	}
	return out[singular].ID, nil
}

// assign gives a user a role in a project of the default domain.
func (w *world) assign(ctx context.Context, user, project, role string) error {
	known, userErr := w.keystone.User(user)
	where, projectErr := w.keystone.Project(project)
	id, roleErr := w.made(ctx, "role", object{"name": role})
	if err := errors.Join(userErr, projectErr, roleErr); err != nil {
		return err
	}
	return w.identity(ctx, http.MethodPut, "/projects/"+where.ID+"/users/"+known.ID+"/roles/"+id, nil, nil)
}

// restart kills webhooks' processes and starts them again, each when the one before is ready.
func (w *world) restart(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := w.kill(name); err != nil {
			return err
		}
		if err := w.start(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) kill(names ...string) error {
	for _, name := range names {
		process, err := w.lab.Process(name)
		if err != nil {
			return err
		}
		if err := process.Kill(); err != nil {
			return fmt.Errorf("kill %s: %w", name, err)
		}
	}
	return nil
}

func (w *world) start(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := w.lab.StartTenancyProcess(ctx, name); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := w.lab.AwaitTenancyProcess(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
