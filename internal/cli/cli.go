// SPDX-License-Identifier: Apache-2.0

// Package cli runs this project's programs: signals, exit codes, the version and
// the flags that all of them share. It is the only package that exits.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudveneto/caas/internal/logging"
)

// ExitError ends a program with a code of its own choosing; Err may be nil when
// everything has been said.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Main runs command until it ends or a signal comes, and exits. The first
// SIGINT or SIGTERM cancels the command's context; a second one ends at once.
func Main(command *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	code := run(ctx, command)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, command *cobra.Command) int {
	command.SilenceErrors = true
	command.SilenceUsage = true
	command.Version = Version()
	err := command.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*ExitError](err); ok {
		if exit.Err != nil {
			_, _ = fmt.Fprintf(command.ErrOrStderr(), "%s: %v\n", command.Name(), exit.Err)
		}
		return exit.Code
	}
	_, _ = fmt.Fprintf(command.ErrOrStderr(), "%s: %v\n", command.Name(), err)
	return 1
}

// LogFlags adds --log-level and --log-format to command and puts the logger that
// they choose into the command's context before it runs.
func LogFlags(command *cobra.Command) {
	options := logging.Options{}
	command.PersistentFlags().StringVar(&options.Level, "log-level", "info", "what to log: debug, info, warn or error")
	command.PersistentFlags().StringVar(&options.Format, "log-format", "text", "how to log: text or json")
	command.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		logger, err := logging.New(cmd.ErrOrStderr(), options)
		if err != nil {
			return err
		}
		cmd.SetContext(logging.Into(cmd.Context(), logger))
		return nil
	}
}

// Version is the module's version, with the revision when it is known.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && len(setting.Value) >= 12 {
			return version + " " + setting.Value[:12]
		}
	}
	return version
}

// FromEnvironment sets the flags that the command line does not set: --ops-listen from PREFIX_OPS_LISTEN, when prefix is
// "PREFIX_". lookup is os.LookupEnv outside tests. The error names every value that a flag does not take.
func FromEnvironment(flags *pflag.FlagSet, prefix string, lookup func(string) (string, bool)) error {
	var problems []error
	flags.VisitAll(func(flag *pflag.Flag) {
		name := prefix + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		if value, set := lookup(name); set && !flag.Changed {
			if err := flags.Set(flag.Name, value); err != nil {
				problems = append(problems, fmt.Errorf("environment %s: %w", name, err))
			}
		}
	})
	return errors.Join(problems...)
}
