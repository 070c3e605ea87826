// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/multitenancy/login"
)

// newCommand leaves flags to the program itself: they have one dash, which cobra takes for one letter each.
func newCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "kubectl-openstack", DisableFlagParsing: true, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	command.RunE = func(cmd *cobra.Command, args []string) error {
		leaveNoCore()
		return run(cmd.Context(), newApp(cmd), args)
	}
	return command
}

func run(ctx context.Context, app *login.App, args []string) error {
	err := app.Run(ctx, args)
	if failure, ok := errors.AsType[*login.ExitError](err); ok {
		return &cli.ExitError{Code: failure.Code, Err: failure.Err}
	}
	return err
}
