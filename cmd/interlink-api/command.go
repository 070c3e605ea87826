// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/api"
)

const usage = `interlink-api takes requests of virtual kubelets, checks who sends them, and
forwards them to one interLink plugin. It runs at the edge of the site that
executes the pods, usually on the machine of the plugin.

Both sides may be upstream interLink's (0.5 to 0.6.2): configuration files of
upstream's API server work as they are, with its environment variables
(INTERLINKCONFIGPATH, INTERLINKURL, INTERLINKPORT, SIDECARURL, SIDECARPORT).
A flag beats the environment, the environment beats the file.

A file for a start, /etc/interlink/InterLinkConfig.yaml:

  InterlinkAddress: https://0.0.0.0
  InterlinkPort: "3000"
  SidecarURL: unix:///run/interlink/plugin.sock
  TLS:
    Enabled: true
    CertFile: /etc/interlink/tls.crt
    KeyFile: /etc/interlink/tls.key
    CACertFile: /etc/interlink/clients-ca.crt   # callers need a certificate of this CA
  Auth:
    TokenFile: /etc/interlink/tokens            # or a token: one "token,name" per line
    OIDC:                                       # or one of an OpenID Connect provider
    - Issuer: https://iam.example.org/
      Audience: interlink
      Groups: [offload]
  OpsAddress: 127.0.0.1:9090                    # /healthz, /readyz, /metrics; none for none

Certificates, keys, client CA and token file are read again when they change.
Without TLS.CACertFile, Auth.TokenFile and Auth.OIDC the server starts only on a
loopback address or a unix socket.

Traces are exported when OTEL_EXPORTER_OTLP_ENDPOINT is set (or upstream's
ENABLE_TRACING=1 and TELEMETRY_ENDPOINT).`

const defaultFile = "/etc/interlink/InterLinkConfig.yaml"

type options struct {
	file           string
	check          bool
	insecureNoAuth bool
	pprof          bool
}

func newCommand() *cobra.Command {
	o := &options{}
	command := &cobra.Command{
		Use:   "interlink-api",
		Short: "Serve the interLink API to virtual kubelets in front of one plugin",
		Long:  usage,
		Example: `  interlink-api --config InterLinkConfig.yaml
  interlink-api --config InterLinkConfig.yaml --check   # say what is wrong with it, and end
  SIDECARURL=http://127.0.0.1 SIDECARPORT=4000 interlink-api --config InterLinkConfig.yaml --log-level debug`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := command.Flags()
	flags.StringVar(&o.file, "config", "", "configuration file (environment INTERLINKCONFIGPATH, default "+defaultFile+")")
	flags.BoolVar(&o.check, "check", false, "check the configuration and end")
	flags.BoolVar(&o.insecureNoAuth, "insecure-no-auth", false, "let everybody who can connect run pods, on any address")
	flags.BoolVar(&o.pprof, "pprof", false, "serve /debug/pprof/ with the metrics; Pprof.Enabled serves it at an address of its own")
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "interlinkconfigpath" { // upstream's name
			name = "config"
		}
		return pflag.NormalizedName(name)
	})
	cli.LogFlags(command)
	return command
}

func (o *options) run(cmd *cobra.Command) error {
	settings, err := o.settings()
	if err != nil {
		return err
	}
	if err := followVerbosity(cmd, settings); err != nil {
		return err
	}
	if o.check {
		if _, err := settings.Config(); err != nil { // reads the files that it names
			return err
		}
		_, err := cmd.OutOrStdout().Write([]byte("the configuration is valid\n"))
		return err
	}
	return serve(cmd.Context(), settings, o)
}

func (o *options) settings() (*api.Settings, error) {
	file := o.file
	if file == "" {
		file = os.Getenv("INTERLINKCONFIGPATH")
	}
	if file == "" {
		file = defaultFile
	}
	settings, err := api.ReadSettings(file)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) && o.file == "" {
			return nil, errors.New("no configuration file: give --config (see --help for an example), or put it at " + file)
		}
		return nil, err
	}
	settings.ApplyEnvironment(os.Getenv)
	settings.Complete()
	if err := settings.Validate(o.insecureNoAuth); err != nil {
		return nil, &configError{file: file, err: err}
	}
	return &settings, nil
}

// configError lists what is wrong with a file, one problem per line.
type configError struct {
	file string
	err  error
}

func (e *configError) Error() string { return "configuration " + e.file + ":\n" + e.err.Error() }

func (e *configError) Unwrap() error { return e.err }

// followVerbosity lets upstream's keys choose the level when no flag does.
func followVerbosity(cmd *cobra.Command, settings *api.Settings) error {
	level := ""
	switch {
	case cmd.Flags().Changed("log-level"):
	case settings.VerboseLogging:
		level = "debug"
	case settings.ErrorsOnlyLogging:
		level = "error"
	}
	if level == "" {
		return nil
	}
	logger, err := logging.New(cmd.ErrOrStderr(), logging.Options{Level: level, Format: cmd.Flag("log-format").Value.String()})
	if err != nil {
		return err
	}
	cmd.SetContext(logging.Into(cmd.Context(), logger))
	return nil
}
