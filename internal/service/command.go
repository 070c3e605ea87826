// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/cli"
)

// Program is a service that does what its configuration file says. S are the settings in it.
type Program[S any] struct {
	// Name, Short, Description and Examples are what --help shows.
	Name, Short, Description, Examples string
	// EnvPrefix is that of the environment variables by which each flag can be set: MT_AUTHN_ for MT_AUTHN_LISTEN.
	EnvPrefix string
	// Config is the file without --config.
	Config string
	// Load reads the file, lays the flags over it, and reports all that is wrong with it.
	Load func(path string) (S, error)
	// Print returns what a flag asks to print in place of serving; nil when none does. It MAY be nil.
	Print func(settings S) ([]byte, error)
	// Serve blocks until ctx is done.
	Serve func(ctx context.Context, settings S) error
}

// Command is the program's command, which has the flags --config, --check and those for logs.
func (p Program[S]) Command() *cobra.Command {
	var config string
	var check bool
	command := &cobra.Command{
		Use: p.Name, Short: p.Short, Long: p.Description, Example: p.Examples, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cli.FromEnvironment(cmd.Flags(), p.EnvPrefix, os.LookupEnv); err != nil {
				return err
			}
			settings, err := p.Load(config)
			if err != nil {
				return err
			}
			if check {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid")
				return err
			}
			return p.run(cmd, settings)
		},
	}
	command.Flags().StringVar(&config, "config", p.Config, "configuration file")
	command.Flags().BoolVar(&check, "check", false, "check the configuration and end")
	cli.LogFlags(command)
	return command
}

func (p Program[S]) run(cmd *cobra.Command, settings S) error {
	if p.Print != nil {
		text, err := p.Print(settings)
		if err != nil {
			return err
		}
		if text != nil {
			_, err = cmd.OutOrStdout().Write(text)
			return err
		}
	}
	return p.Serve(cmd.Context(), settings)
}
