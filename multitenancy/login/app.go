// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/cloudveneto/caas/multitenancy/login/clouds"
	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/tokencache"
	"github.com/cloudveneto/caas/multitenancy/login/vault"
)

// Terminal asks people.
type Terminal interface {
	// Interactive tells that somebody can be asked.
	Interactive() bool
	// Line asks for a line and blocks until it is there. Hidden ones are not shown while they are typed.
	Line(ctx context.Context, question string, hidden bool) (string, error)
}

// App is the program without its process.
type App struct {
	// In is standard input; only -password-stdin reads it.
	In       io.Reader
	Out, Err io.Writer
	Terminal Terminal
	// Environment is where the program runs.
	Environment clouds.Environment
	// Defaults are the build's.
	Defaults Site
	// SystemConfig is the file of settings for all users of the machine; empty for none.
	SystemConfig string
	// Version is what the command version prints.
	Version string
	// Executable is the program's own path, for kubeconfigs if it is not in PATH.
	Executable string
	// Host is the machine's name.
	Host string
	// Keyring is the system's; nil if there is none.
	Keyring vault.Keyring
	// Caller is the process that has started this one.
	Caller tokencache.Caller
	// Now is the machine's clock.
	Now func() time.Time
}

// command is one of the program's.
type command struct {
	name, summary string
	options       func(into *options) []option
	run           func(a *App, ctx context.Context, o *options) error
}

// commands are all of them; the one without a name is what runs when none is named.
func commands() []command {
	return []command{
		{"login", "log in and configure kubectl; what runs without a command", loginOptions, (*App).login},
		{"get-token", "print a token for kubectl and other clients (ExecCredential)", tokenOptions, (*App).getToken},
		{"status", "show what is configured, and until when it is valid", statusOptions, (*App).status},
		{"whoami", "show who the platform says you are", whoamiOptions, (*App).whoami},
		{"projects", "list your projects", projectsOptions, (*App).projects},
		{"logout", "revoke tokens, credentials and trusts", logoutOptions, (*App).logout},
		{"completion", "print completion for bash, zsh or fish", noOptions, (*App).completion},
		{"version", "print the version", noOptions, (*App).version},
	}
}

// Run does what the arguments say. Errors are *ExitError, but for those that nobody expects.
func (a *App) Run(ctx context.Context, args []string) error {
	chosen, rest, err := choose(args)
	if err != nil {
		return err
	}
	var settings options
	set := chosen.flagSet(&settings)
	err = set.Parse(rest)
	if errors.Is(err, flag.ErrHelp) {
		return a.help(chosen)
	}
	if err != nil {
		return fail(CodeUsage, "%w; see kubectl-openstack %s--help", err, chosen.prefix())
	}
	settings.args = set.Args()
	if len(settings.args) > 0 && chosen.name != "completion" {
		return fail(CodeUsage, "do not know what to do with %q; see kubectl-openstack %s--help", settings.args[0], chosen.prefix())
	}
	set.Visit(func(given *flag.Flag) { settings.given = append(settings.given, given.Name) })
	return classified(chosen.run(a, ctx, &settings))
}

func choose(args []string) (command, []string, error) {
	all := commands()
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return all[0], args, nil
	}
	if args[0] == "help" {
		return all[0], []string{"-help"}, nil
	}
	for _, one := range all {
		if one.name == args[0] {
			return one, args[1:], nil
		}
	}
	return command{}, nil, fail(CodeUsage, "there is no command %q; see kubectl-openstack --help", args[0])
}

// prefix is what goes before the command's flags, for messages.
func (c command) prefix() string {
	if c.name == "login" {
		return ""
	}
	return c.name + " "
}

func (c command) flagSet(into *options) *flag.FlagSet {
	set := flag.NewFlagSet(c.name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	for _, one := range c.options(into) {
		one.add(set)
	}
	return set
}

func (a *App) logger(o *options) *slog.Logger {
	if !o.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// note tells the user something beside what he asked for.
func (a *App) note(format string, args ...any) {
	_, _ = fmt.Fprintf(a.Err, format+"\n", args...)
}

func (a *App) keystone(site Site, o *options) (*identity.Client, error) {
	ca, err := pem(site.AuthCAFile)
	if err != nil {
		return nil, err
	}
	return a.keystoneAt(site.AuthURL, ca, o)
}

func (a *App) keystoneAt(address string, ca []byte, o *options) (*identity.Client, error) {
	if address == "" {
		return nil, fail(CodeUsage, "Keystone's address is not known; give it with -auth-url, OS_AUTH_URL or clouds.yaml")
	}
	return identity.New(identity.Config{AuthURL: address, CA: ca, Timeout: o.timeout, Logger: a.logger(o), Now: a.Now})
}

func (a *App) version(_ context.Context, _ *options) error {
	_, err := fmt.Fprintf(a.Out, "kubectl-openstack %s\n", a.Version)
	return err
}
