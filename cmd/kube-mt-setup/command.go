// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/mtconfig"
)

const description = `kube-mt-setup makes, of one small file, all that stands beside an API server whose
namespaces the users of OpenStack projects share: certificates, kubeconfig files, the
configurations of kube-mt-authn, kube-mt-authz and kube-mt-admission, the API server's
own, manifests for the cluster, units or static pods, and the API server's flags.

A file for a start, site.yaml:

  keystone:
    authURL: https://keystone.example.org:5000/v3
    caFile: /etc/ssl/certs/keystone-ca.pem   # leave out for the system's authorities
  # trusted: [system:serviceaccount:monitoring:operator]   # make objects for tenants
  # oidc: []                # providers, as in kube-mt-authn's file
  # owner: kube-mt          # the user that runs the webhooks; make it first
  # runs: staticPods        # or systemd, the default
  # replicas: 2             # processes of each webhook on this machine

Run it as root on each machine of the control plane:

  kube-mt-setup --config site.yaml              # writes /etc/kubernetes/mt
  kube-mt-setup --config site.yaml --print-args # what kube-apiserver needs

then, in this order: start the webhooks (systemd/ or static-pods/ in the directory), give
the API server its flags (kubeadm.yaml has them for kubeadm; --authorization-mode has to
go), apply manifests/1 to 3, and, when the webhooks are ready, manifests/4.

What is right is left alone, so run it as often as you like. A key that is there is never
written over, unless you say --renew. --check changes nothing and says what is missing,
what differs, and what expires within 30 days; its exit code is 1 if there is anything.
Keep ca.key of the first machine and copy it to the others before you run it there, if
they are to share the webhooks' CA; each may as well have its own.`

type options struct {
	config, directory       string
	check, renew, printArgs bool
}

func newCommand() *cobra.Command {
	o := &options{}
	command := &cobra.Command{
		Use:   "kube-mt-setup",
		Short: "Write all that the multitenancy webhooks and the API server beside them read",
		Long:  description,
		Example: `  kube-mt-setup --config site.yaml
  kube-mt-setup --config site.yaml --check
  kube-mt-setup --config site.yaml --renew      # new certificates; restart nothing: they are read again
  kubectl apply -f /etc/kubernetes/mt/manifests/1-rbac.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := command.Flags()
	flags.StringVar(&o.config, "config", "site.yaml", "the site's file")
	flags.StringVar(&o.directory, "directory", "", "where everything goes, in place of the file's directory (default /etc/kubernetes/mt)")
	flags.BoolVar(&o.check, "check", false, "say what of an installed directory is missing, expires, or differs, and change nothing")
	flags.BoolVar(&o.renew, "renew", false, "make certificates and keys anew")
	flags.BoolVar(&o.printArgs, "print-args", false, "print the further arguments of kube-apiserver, one per line, and end")
	cli.LogFlags(command)
	return command
}

func (o *options) run(cmd *cobra.Command) error {
	content, err := os.ReadFile(filepath.Clean(o.config))
	if err != nil {
		return fmt.Errorf("read the site's file: %w", err)
	}
	site, err := mtconfig.Parse(content)
	if err != nil {
		return fmt.Errorf("%s:\n%w", o.config, err)
	}
	if o.directory != "" {
		site.Directory = o.directory
		if site, err = site.Complete(); err != nil {
			return err
		}
	}
	switch {
	case o.printArgs:
		return say(cmd, "%s\n", strings.Join(site.APIServerArgs(), "\n"))
	case o.check:
		return check(cmd, site)
	default:
		return o.install(cmd, site)
	}
}

func (o *options) install(cmd *cobra.Command, site mtconfig.Site) error {
	written, err := mtconfig.Install(site, mtconfig.Options{Renew: o.renew})
	for _, name := range written {
		if err := say(cmd, "wrote %s\n", filepath.Join(site.Directory, name)); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if len(written) == 0 {
		return say(cmd, "%s is as %s says\n", site.Directory, o.config)
	}
	return nil
}

func check(cmd *cobra.Command, site mtconfig.Site) error {
	findings, err := mtconfig.Check(site, time.Now())
	if err != nil {
		return err
	}
	for _, finding := range findings {
		if err := say(cmd, "%s: %s\n", filepath.Join(site.Directory, finding.File), finding.Problem); err != nil {
			return err
		}
	}
	if len(findings) > 0 {
		return &cli.ExitError{Code: 1}
	}
	return say(cmd, "%s is complete\n", site.Directory)
}

func say(cmd *cobra.Command, format string, args ...any) error {
	_, err := fmt.Fprintf(cmd.OutOrStdout(), format, args...)
	return err
}
