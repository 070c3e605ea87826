// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"encoding/base64"
	"slices"

	"go.yaml.in/yaml/v3"
)

// View is what the files say together. Of entries with the same name, the first counts.
type View struct {
	Current  string
	Contexts []Context
	Clusters []Cluster
	// Users are this program's.
	Users []User
	// Mine are the names of all entries of this program.
	Mine Names
}

// View reads the files.
func (s Store) View() (View, error) {
	files, err := s.read()
	if err != nil {
		return View{}, err
	}
	var view View
	seen := map[string]bool{}
	for _, file := range files {
		if view.Current == "" {
			view.Current = text(find(file.root, current))
		}
		for _, section := range []string{clusters, users, contexts} {
			for _, one := range list(file.root, section) {
				name := text(find(one, "name"))
				if key := section + "/" + name; !seen[key] {
					seen[key] = true
					view.add(section, name, find(one, body(section)))
				}
			}
		}
	}
	return view, nil
}

func (v *View) add(section, name string, content *yaml.Node) {
	mark := markOf(content)
	switch section {
	case clusters:
		ca, _ := base64.StdEncoding.DecodeString(text(find(content, "certificate-authority-data"))) // kubectl complains of a bad one
		v.Clusters = append(v.Clusters, Cluster{Name: name, Server: text(find(content, "server")), CA: ca})
		if mark != nil {
			v.Mine.Clusters = append(v.Mine.Clusters, name)
		}
	case contexts:
		v.Contexts = append(v.Contexts, Context{
			Name: name, Cluster: text(find(content, "cluster")), User: text(find(content, "user")), Namespace: text(find(content, "namespace")),
		})
		if mark != nil {
			v.Mine.Contexts = append(v.Mine.Contexts, name)
		}
	default:
		if mark == nil {
			return
		}
		user := User{Name: name, Token: text(find(content, "token")), Mark: *mark}
		if exec := find(content, "exec"); exec != nil {
			user.Exec = &Exec{Command: text(find(exec, "command"))}
		}
		v.Users = append(v.Users, user)
		v.Mine.Users = append(v.Mine.Users, name)
	}
}

// Context finds one.
func (v View) Context(name string) (Context, bool) {
	at := slices.IndexFunc(v.Contexts, func(one Context) bool { return one.Name == name })
	if at < 0 {
		return Context{}, false
	}
	return v.Contexts[at], true
}

// Cluster finds one.
func (v View) Cluster(name string) (Cluster, bool) {
	at := slices.IndexFunc(v.Clusters, func(one Cluster) bool { return one.Name == name })
	if at < 0 {
		return Cluster{}, false
	}
	return v.Clusters[at], true
}

// User finds one of this program's.
func (v View) User(name string) (User, bool) {
	at := slices.IndexFunc(v.Users, func(one User) bool { return one.Name == name })
	if at < 0 {
		return User{}, false
	}
	return v.Users[at], true
}
