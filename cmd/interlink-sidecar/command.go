// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

const usage = `interlink-sidecar runs pods of other Kubernetes clusters in this one. It is an
interLink plugin: an interLink API server hands it pods, and it creates, follows
and deletes them here, as an ordinary tenant with the rights of its kubeconfig.

It keeps nothing on disk. Labels on the created pods say where they come from, so
it may be restarted, or run twice, at any time.

A file for a start, /etc/interlink/sidecar.yaml:

  listen: unix:///run/interlink/plugin.sock
  opsListen: 127.0.0.1:9091              # /healthz, /readyz, /metrics; empty for none
  kubeconfig: /etc/interlink/kubeconfig  # leave out inside the cluster
  namespace: {mode: fixed, fixed: cms}   # or: {mode: map, map: {theirs: ours}}, {mode: same}
  policy:
    annotations: {osn.infn.it/policy: shared}  # also on the project's nodes; else on the tenant's own
    volumes:                             # what volumes of the origin become here
    - match: {kind: persistentVolumeClaim, name: "cvmfs*"}
      target: {persistentVolumeClaim: {claimName: cvmfs, readOnly: true}}
    dns:                                 # the origin's DNS, as reachable from here
      "*": {nameservers: [10.96.0.10], domain: cluster.local}

With clients: {name: …} each client, by the name that the interLink API found out, has its own
namespace, policy, user of the target cluster and share of it; who is not listed is refused.

On a cluster with tenants it is one: the kubeconfig logs it in by an exec plugin, such as
kubectl-openstack get-token with an application credential of its own, and a token that
ends is replaced. It lists what belongs to its user, and the nodes of his pools.

A pod that cannot run here is refused with a sentence that names the field and
the rule. What is changed or left out is listed in the created pod's annotation
offload.infn.it/report.

The plugin does not authenticate its callers: the interLink API does. It therefore
listens on a unix socket, on a loopback address, or with tls.clientCAFile.

Every flag can be set by the environment: SIDECAR_KUBECONFIG for --kubeconfig. A flag
beats the environment, the environment beats the file. Traces are exported when
OTEL_EXPORTER_OTLP_ENDPOINT is set.`

const envPrefix = "SIDECAR_"

// file is the configuration file: the plugin's settings and where it runs.
type file struct {
	plugin.Settings
	access

	// Listen is unix:///path or host:port.
	Listen string `json:"listen,omitempty"`
	// OpsListen serves health and metrics; empty for none.
	OpsListen string `json:"opsListen,omitempty"`
	// Pprof serves profiles there, too.
	Pprof bool     `json:"pprof,omitempty"`
	TLS   *tlsFile `json:"tls,omitempty"`
	// QPS and Burst limit requests to the target cluster; -1, the default, is no
	// limit of the sidecar's own.
	QPS   float32 `json:"qps,omitempty"`
	Burst int     `json:"burst,omitempty"`
	// Clients are those that may run pods, by the name that the interLink API hands on; nil is everybody.
	Clients map[string]*clientFile `json:"clients,omitempty"`

	// unread are problems of the file's form.
	unread []error
}

type tlsFile struct {
	CertFile     string `json:"certFile"`
	KeyFile      string `json:"keyFile"`
	ClientCAFile string `json:"clientCAFile,omitempty"`
}

type options struct {
	config         string
	check          bool
	insecureNoAuth bool
	pprof          bool
	// flags overwrite the file where they are set.
	listen, opsListen, kubeconfig, context, namespace string
}

func newCommand() *cobra.Command {
	o := &options{}
	command := &cobra.Command{
		Use:   "interlink-sidecar",
		Short: "Run pods of other clusters in this one, as an interLink plugin",
		Long:  usage,
		Example: `  interlink-sidecar --config sidecar.yaml
  interlink-sidecar --config sidecar.yaml --check    # say what is wrong with it, and end
  interlink-sidecar --kubeconfig ~/.kube/config --namespace cms --listen 127.0.0.1:4000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := command.Flags()
	flags.StringVar(&o.config, "config", "", "configuration file")
	flags.BoolVar(&o.check, "check", false, "check the configuration and end")
	flags.BoolVar(&o.insecureNoAuth, "insecure-no-auth", false, "let everybody who can connect run pods, on any address")
	flags.StringVar(&o.listen, "listen", "", "where to serve the API: unix:///path or host:port (default 127.0.0.1:4000)")
	flags.StringVar(&o.opsListen, "ops-listen", "", "where to serve /healthz, /readyz and /metrics: host:port")
	flags.BoolVar(&o.pprof, "pprof", false, "serve /debug/pprof/ there, too")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the target cluster; none inside the cluster")
	flags.StringVar(&o.context, "context", "", "context of the kubeconfig")
	flags.StringVar(&o.namespace, "namespace", "", "namespace for all pods; short for namespace: {mode: fixed, fixed: …}")
	cli.LogFlags(command)
	return command
}

func (o *options) run(cmd *cobra.Command) error {
	if err := cli.FromEnvironment(cmd.Flags(), envPrefix, os.LookupEnv); err != nil {
		return err
	}
	settings, err := o.complete()
	if err != nil {
		return err
	}
	all, err := settings.validate(o.insecureNoAuth)
	if err != nil {
		return fmt.Errorf("configuration:\n%w", err)
	}
	if o.check {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid")
		return err
	}
	return serve(cmd.Context(), settings, all)
}

// complete reads the file and lays the flags over it.
func (o *options) complete() (*file, error) {
	settings := &file{}
	if o.config != "" {
		content, err := os.ReadFile(o.config)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		if settings.unread, err = decode(content, settings); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", o.config, err)
		}
	}
	for target, value := range map[*string]string{
		&settings.Listen: o.listen, &settings.OpsListen: o.opsListen,
		&settings.Kubeconfig: o.kubeconfig, &settings.Context: o.context,
	} {
		if value != "" {
			*target = value
		}
	}
	if o.namespace != "" {
		settings.Namespace = plugin.NamespaceRule{Mode: plugin.NamespaceFixed, Fixed: o.namespace}
	}
	settings.Pprof = settings.Pprof || o.pprof
	if settings.Listen == "" {
		settings.Listen = "127.0.0.1:4000"
	}
	if settings.QPS == 0 {
		settings.QPS = -1
	}
	return settings, nil
}

// validate reports all problems at once, else the clients to serve.
func (f *file) validate(insecureNoAuth bool) ([]served, error) {
	all, problems := f.served()
	problems = append(slices.Clone(f.unread), problems...)
	if f.TLS != nil && (f.TLS.CertFile == "" || f.TLS.KeyFile == "") {
		problems = append(problems, errors.New("tls: certFile and keyFile are required"))
	}
	if f.QPS > 0 && f.Burst < 1 {
		problems = append(problems, fmt.Errorf("burst: %d: must be positive when qps is", f.Burst))
	}
	if f.Pprof && f.OpsListen == "" {
		problems = append(problems, errors.New("pprof: profiles are served with the metrics: set opsListen"))
	}
	protected := private(f.Listen) || (f.TLS != nil && f.TLS.ClientCAFile != "")
	if !protected && !insecureNoAuth {
		problems = append(problems, fmt.Errorf("listen: %q can be reached by others, who could run pods: use a unix socket, a loopback address or tls.clientCAFile, or give --insecure-no-auth", f.Listen))
	}
	if err := distinct(problems); err != nil {
		return nil, err
	}
	return all, nil
}

// private reports whether only this machine reaches an address.
func private(address string) bool {
	if strings.HasPrefix(address, "unix://") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// serverTLS is the server's form of the file's.
func (f *file) serverTLS() *httpserver.TLS {
	if f.TLS == nil {
		return nil
	}
	return &httpserver.TLS{
		CertFile: f.TLS.CertFile, KeyFile: f.TLS.KeyFile, ClientCAFile: f.TLS.ClientCAFile,
		RequireClientCert: f.TLS.ClientCAFile != "",
	}
}
