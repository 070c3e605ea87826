// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/site"
)

// startSite runs the OSNode controller in a lab that has an OpenStack, with users to be, and says how to be them. The
// users have authorised the platform, as a login does.
func startSite(cmd *cobra.Command, l *lab.Lab, binDir string) error {
	if _, err := l.OpenStack(); errors.Is(err, lab.ErrNoOpenStack) {
		return nil
	}
	ctx := cmd.Context()
	source, err := gobuild.FindSource("")
	if err != nil {
		return err
	}
	s, err := site.New(ctx, site.Config{Lab: l, BinDir: binDir, Manifests: filepath.Join(source, "deploy")})
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return fmt.Errorf("start the OSNode controller: %w", err)
	}
	say(cmd, "\nOpenStack users, with what they can do on the CaaS cluster:\n")
	for _, user := range []struct{ name, project string }{
		{openstack.Zangrand, openstack.CMS}, {openstack.Zangrand, openstack.QST}, {openstack.Lisa, openstack.QST},
	} {
		if _, err := s.Authorize(ctx, user.name, user.project); err != nil {
			return err
		}
		kubeconfig, err := s.UserKubeconfig(user.name, user.project)
		if err != nil {
			return err
		}
		say(cmd, "%-18s %-4s KUBECONFIG=%s\n", user.name, user.project, kubeconfig)
	}
	say(cmd, "\nTry:  KUBECONFIG=… %s apply -f examples/osnode/osnode.yml\n", l.Kubectl())
	return nil
}
