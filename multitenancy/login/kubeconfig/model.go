// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"errors"
	"fmt"
	"strings"
)

// Extension is the name of the extension with which entries are marked as this program's.
const Extension = "kubectl-openstack"

// Sections of a kubeconfig.
const (
	clusters = "clusters"
	users    = "users"
	contexts = "contexts"
	current  = "current-context"
)

// Change is what to make of the kubeconfig. Entries that are there already are changed if they
// are this program's, and refused otherwise, unless Force is set.
type Change struct {
	Clusters []Cluster
	Users    []User
	Contexts []Context
	// Current is the context to use from now on; empty leaves what is.
	Current string
	// Remove takes entries out, if they are this program's.
	Remove Names
	// Force replaces entries of others, after a backup.
	Force bool
}

// Names are entries.
type Names struct{ Clusters, Users, Contexts []string }

// Cluster is an API server.
type Cluster struct {
	Name, Server string
	// CA are certificates in PEM form; none leaves it to the system's authorities.
	CA []byte
}

// User is how to prove who one is: with a token, or a program that gets one.
type User struct {
	Name  string
	Token string
	Exec  *Exec
	Mark  Mark
}

// Exec is a credential plugin.
type Exec struct {
	Command string   `yaml:"command"`
	Args    []string `yaml:"args"`
}

// Mark is what this program notes beside an entry. It holds no secrets.
type Mark struct {
	Mode    string `yaml:"mode"`
	AuthURL string `yaml:"authURL,omitempty"`
	User    string `yaml:"user,omitempty"`
	UserID  string `yaml:"userID,omitempty"`
	Project string `yaml:"project,omitempty"`
	// ProjectID is the project's id.
	ProjectID string `yaml:"projectID,omitempty"`
	Issuer    string `yaml:"issuer,omitempty"`
	// Expires is when the token ends; it is not known of those that are renewed.
	Expires string `yaml:"expires,omitempty"`
	// Trustee is the user who may make machines for this one.
	Trustee string `yaml:"trustee,omitempty"`
}

// Context is a cluster with a user and a namespace.
type Context struct{ Name, Cluster, User, Namespace string }

// Kind is what sort of trouble it is.
type Kind string

const (
	// Conflict is an entry of somebody else's.
	Conflict Kind = "Conflict"
	// Corrupt is a file that is no kubeconfig.
	Corrupt Kind = "Corrupt"
	// Unwritable is a file that cannot be changed.
	Unwritable Kind = "Unwritable"
	// Locked is a file that another program is changing, or has not finished changing.
	Locked Kind = "Locked"
)

// Error says what is wrong with a file.
type Error struct {
	Kind    Kind
	Path    string
	Message string
}

func (e *Error) Error() string { return e.Path + " " + e.Message }

// Is tells that an error is of a kind.
func Is(err error, kind Kind) bool {
	failure, ok := errors.AsType[*Error](err)
	return ok && failure.Kind == kind
}

func trouble(kind Kind, path, format string, args ...any) error {
	return &Error{Kind: kind, Path: path, Message: fmt.Sprintf(format, args...)}
}

// entry is a named element of a section, in a form that does not depend on the section.
type entry struct {
	section, name string
	// remove takes it out; otherwise change sets its fields.
	remove bool
	change func(body *fields)
}

// entries are what a change does to a section's entries, in their order.
func (c Change) entries() []entry {
	var all []entry
	for _, one := range c.Clusters {
		all = append(all, entry{section: clusters, name: one.Name, change: one.set})
	}
	for _, one := range c.Users {
		all = append(all, entry{section: users, name: one.Name, change: one.set})
	}
	for _, one := range c.Contexts {
		all = append(all, entry{section: contexts, name: one.Name, change: one.set})
	}
	for section, names := range map[string][]string{clusters: c.Remove.Clusters, users: c.Remove.Users, contexts: c.Remove.Contexts} {
		for _, name := range names {
			all = append(all, entry{section: section, name: name, remove: true})
		}
	}
	return all
}

// body is the key of an entry's own fields: cluster, user or context.
func body(section string) string { return strings.TrimSuffix(section, "s") }
