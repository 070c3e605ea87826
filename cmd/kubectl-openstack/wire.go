// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/multitenancy/login"
	"github.com/cloudveneto/caas/multitenancy/login/clouds"
	"github.com/cloudveneto/caas/multitenancy/login/vault"
)

// What a site builds in with -ldflags "-X main.buildServer=https://…"; see deploy/kubectl-openstack.
var (
	buildVersion, buildName, buildServer, buildAuthURL, buildDomain string
	buildTrusteeID, buildTrusteeName, buildIssuer, buildClientID    string
)

func newApp(command *cobra.Command) *login.App {
	home, _ := os.UserHomeDir()      // without one there are no files of the user's
	workDir, _ := os.Getwd()         // nor without this
	host, _ := os.Hostname()         // it is for names only
	executable, _ := os.Executable() // it is in PATH then
	app := &login.App{
		In: command.InOrStdin(), Out: command.OutOrStdout(), Err: command.ErrOrStderr(), Terminal: terminal{},
		Environment: clouds.Environment{Lookup: os.LookupEnv, Home: home, WorkDir: workDir},
		Defaults: login.Site{
			Name: buildName, Server: buildServer, AuthURL: buildAuthURL, Domain: buildDomain,
			Trustee: login.Trustee{ID: buildTrusteeID, Name: buildTrusteeName},
			OIDC:    login.OpenID{Issuer: buildIssuer, ClientID: buildClientID},
		},
		SystemConfig: "/etc/kubectl-openstack/config.yaml",
		Version:      version(), Executable: executable, Host: host, Caller: caller(), Now: time.Now,
	}
	if vault.Present(os.LookupEnv) {
		app.Keyring = vault.System{}
	}
	return app
}

func version() string {
	if buildVersion != "" {
		return buildVersion
	}
	return cli.Version()
}
