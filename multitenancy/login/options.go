// SPDX-License-Identifier: Apache-2.0

package login

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"
)

// options are the flags of all commands.
type options struct {
	user, password, domain, projectDomain string
	projects                              list
	allProjects, force                    bool
	passwordStdin                         bool
	passcode                              string
	cloud, authURL, authCA, server, ca    string
	kubeconfig, name                      string
	exec, yes, noTrust                    bool
	oidc                                  bool
	issuer, clientID                      string
	credential, context, output           string
	purge                                 bool
	verbose                               bool
	timeout                               time.Duration

	args, given []string
}

func (o *options) has(name string) bool { return slices.Contains(o.given, name) }

// list is a flag that may be repeated, or have several values with commas between.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

// Set adds values.
func (l *list) Set(text string) error {
	for value := range strings.SplitSeq(text, ",") {
		if value = strings.TrimSpace(value); value == "" {
			return fmt.Errorf("%q has an empty name", text)
		} else if !slices.Contains(*l, value) {
			*l = append(*l, value)
		}
	}
	return nil
}

// option is a flag with its help.
type option struct {
	name, argument, help string
	into                 any
	// first is one of those that the user guide shows.
	first bool
}

func (o option) add(set *flag.FlagSet) {
	switch into := o.into.(type) {
	case *bool:
		set.BoolVar(into, o.name, *into, o.help)
	case *string:
		set.StringVar(into, o.name, *into, o.help)
	case *time.Duration:
		set.DurationVar(into, o.name, *into, o.help)
	case flag.Value:
		set.Var(into, o.name, o.help)
	}
}

func loginOptions(o *options) []option {
	return slices.Concat([]option{
		{"force", "", "overwrite the existing configuration", &o.force, true},
		{"password", "string", "your CloudVeneto password", &o.password, true},
		{"project", "string", "your CloudVeneto project", &o.projects, true},
		{"user", "string", "your CloudVeneto username", &o.user, true},
		{"all-projects", "", "configure all your projects", &o.allProjects, false},
	}, credentialOptions(o), []option{
		{"exec", "", "let kubectl renew the token by itself, with an application credential", &o.exec, false},
		{"oidc", "", "log in with a browser, at an OpenID provider", &o.oidc, false},
		{"issuer", "url", "the OpenID provider", &o.issuer, false},
		{"client-id", "string", "this program's name at the OpenID provider", &o.clientID, false},
		{"yes", "", "agree to everything that is asked", &o.yes, false},
		{"no-trust", "", "do not let the platform create machines for you", &o.noTrust, false},
		{"server", "url", "the Kubernetes API server", &o.server, false},
		{"name", "string", "the cluster's name in the kubeconfig", &o.name, false},
	}, generalOptions(o))
}

// credentialOptions are how a user says who he is, beside user and password.
func credentialOptions(o *options) []option {
	return []option{
		{"password-stdin", "", "read the password from standard input", &o.passwordStdin, false},
		{"passcode", "string", "one-time passcode (TOTP)", &o.passcode, false},
		{"domain", "string", "the domain of user and project", &o.domain, false},
		{"project-domain", "string", "the project's domain, if it is another one", &o.projectDomain, false},
		{"cloud", "string", "the cloud in clouds.yaml (OS_CLOUD)", &o.cloud, false},
		{"auth-url", "url", "Keystone's address (OS_AUTH_URL)", &o.authURL, false},
		{"ca", "file", "certificate authority of the API server, and of Keystone", &o.ca, false},
		{"auth-ca", "file", "certificate authority of Keystone, if it is another one (OS_CACERT)", &o.authCA, false},
	}
}

func generalOptions(o *options) []option {
	o.timeout = 15 * time.Second
	return []option{
		{"kubeconfig", "file", "the kubeconfig, instead of $KUBECONFIG or ~/.kube/config", &o.kubeconfig, false},
		{"timeout", "duration", "how long to wait for each answer", &o.timeout, false},
		{"v", "", "show what is asked of whom", &o.verbose, false},
	}
}

func userOptions(o *options) []option {
	return []option{
		{"user", "string", "your CloudVeneto username", &o.user, false},
		{"password", "string", "your CloudVeneto password", &o.password, false},
	}
}

func tokenOptions(o *options) []option {
	return slices.Concat([]option{
		{"credential", "string", "the credential that a login with -exec or -oidc has kept", &o.credential, false},
		{"project", "string", "the project, if the credential does not say", &o.projects, false},
	}, userOptions(o), credentialOptions(o), generalOptions(o)[1:])
}

func statusOptions(o *options) []option {
	return slices.Concat([]option{{"o", "format", "json, or nothing for people", &o.output, false}}, generalOptions(o))
}

func whoamiOptions(o *options) []option {
	return slices.Concat([]option{
		{"context", "string", "the kubeconfig's context, instead of the current one", &o.context, false},
		{"o", "format", "json, or nothing for people", &o.output, false},
	}, generalOptions(o))
}

func projectsOptions(o *options) []option {
	return slices.Concat([]option{{"o", "format", "json, or nothing for people", &o.output, false}}, userOptions(o), credentialOptions(o), generalOptions(o))
}

func logoutOptions(o *options) []option {
	return slices.Concat([]option{
		{"project", "string", "log out of this project only", &o.projects, false},
		{"purge", "", "remove the entries from the kubeconfig, too", &o.purge, false},
	}, userOptions(o), credentialOptions(o), generalOptions(o))
}

func noOptions(*options) []option { return nil }
