// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/manifest"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/proc"
	"github.com/cloudveneto/caas/internal/mtconfig"
)

// webhookReplicas is how many processes of each webhook, and of the proxy, a lab has.
const webhookReplicas = 2

// ErrNoTenancy is returned by what needs tenants when the lab was made without.
var ErrNoTenancy = errors.New("the lab was made without tenants")

// Tenancy tells whether the CaaS cluster has tenants: users of Keystone, whom the webhooks keep apart.
func (l *Lab) Tenancy() bool { return !l.state.NoTenancy }

func (l *Lab) keystoneFile(name string) string { return l.path("keystone", name) }

// site is what the lab says of itself as a site that installs the webhooks.
func (l *Lab) site() (mtconfig.Site, error) {
	caas, err := l.Cluster(CaaS)
	if err != nil {
		return mtconfig.Site{}, err
	}
	return mtconfig.Site{
		Directory: l.path("mt"), APIServer: caas.InsideServer(), Replicas: webhookReplicas, ProgramDir: l.state.Programs,
		ClusterCA: mtconfig.CA{CertFile: caas.dir("pki", "ca.crt"), KeyFile: caas.dir("pki", "ca.key")},
		Keystone:  &mtconfig.Keystone{AuthURL: l.insideKeystone(), CAFile: l.keystoneFile("ca.crt")},
		Tenants:   map[string]any{}, // with its defaults: namespaces of projects whose members log in
		Proxy:     &mtconfig.Proxy{Listen: l.insideProxy(), Names: []string{gateway().String(), loopback, "localhost"}},
	}.Complete()
}

// tenancyArgs are the arguments of the API server that has tenants.
func (l *Lab) tenancyArgs() []string {
	site, err := l.site()
	if l.state.NoTenancy || err != nil {
		return nil
	}
	return site.APIServerArgs()
}

// checkPrograms names the programs of this repository that the lab runs and that are not built.
func (l *Lab) checkPrograms() error {
	if l.state.NoTenancy {
		return nil
	}
	for _, one := range l.tenancyProcesses() {
		if _, err := os.Stat(filepath.Join(l.state.Programs, one.program)); err != nil {
			return fmt.Errorf("program %s: %w (run make build)", one.program, err)
		}
	}
	return nil
}

// prepareTenancy writes what the API server and the webhooks read, before either runs.
func (l *Lab) prepareTenancy() error {
	if l.state.NoTenancy {
		return nil
	}
	if err := l.writeKeystoneCertificate(); err != nil {
		return err
	}
	caas, err := l.Cluster(CaaS)
	if err != nil {
		return err
	}
	if err := kube.Prepare(caas.controlPlane()); err != nil {
		return err
	}
	site, err := l.site()
	if err != nil {
		return err
	}
	_, err = mtconfig.Install(site, mtconfig.Options{})
	return err
}

// writeKeystoneCertificate makes Keystone's certificate, which is good inside the LAN and at the lab's door on this
// machine. The CA is written last: when it is there, all is.
func (l *Lab) writeKeystoneCertificate() error {
	if exists(l.keystoneFile("ca.crt")) {
		return nil
	}
	if err := os.MkdirAll(l.keystoneFile(""), 0o750); err != nil {
		return fmt.Errorf("make Keystone's certificate: %w", err)
	}
	ca, pair, err := kube.NewCA("keystone-ca")
	if err != nil {
		return err
	}
	serving, err := ca.Serving("keystone", OpenStackAddress().String(), loopback, "localhost")
	if err != nil {
		return err
	}
	for _, file := range []struct {
		name    string
		content []byte
	}{{"tls.key", serving.Key}, {"tls.crt", serving.Cert}, {"ca.crt", pair.Cert}} {
		if err := os.WriteFile(l.keystoneFile(file.name), file.content, 0o600); err != nil {
			return fmt.Errorf("write Keystone's certificate: %w", err)
		}
	}
	return nil
}

// startKeystone starts Keystone alone, unless it is, or will be, part of a cloud that there was before.
func (l *Lab) startKeystone(ctx context.Context, cfg Config, detail func(string)) error {
	if l.state.NoTenancy {
		return nil
	}
	if known, err := openstack.Open(l.openStackDir()); err == nil && known.Config().Driver != openstack.Identity {
		return nil
	}
	config := l.openStackConfig(cfg, detail)
	config.Driver = openstack.Identity
	_, err := openstack.Start(ctx, config)
	return err
}

// startTenancy starts the webhooks, gives them their rights and the projects their namespaces, and has the API server ask
// about changes once the webhooks can answer.
func (l *Lab) startTenancy(ctx context.Context) error {
	if l.state.NoTenancy {
		return nil
	}
	for _, name := range l.TenancyProcesses() {
		if err := l.StartTenancyProcess(ctx, name); err != nil {
			return err
		}
	}
	caas, err := l.Cluster(CaaS)
	if err != nil {
		return err
	}
	plane, err := caas.ControlPlane()
	if err != nil {
		return err
	}
	config, err := plane.RESTConfig()
	if err != nil {
		return err
	}
	manifests, before, last := os.DirFS(l.path("mt")), mtconfig.Manifests(), len(mtconfig.Manifests())-1
	if err := manifest.Apply(ctx, config, manifests, before[:last]...); err != nil {
		return fmt.Errorf("give the webhooks their rights: %w", err)
	}
	for _, project := range []string{openstack.CMS, openstack.QST} {
		if err := l.AddTenantNamespace(ctx, project, TenantNamespace(project)); err != nil {
			return err
		}
	}
	if err := l.awaitWebhooks(ctx); err != nil {
		return err
	}
	if err := manifest.Apply(ctx, config, manifests, before[last]); err != nil {
		return fmt.Errorf("have the API server ask the webhooks: %w", err)
	}
	return nil
}

// tenancyProcess is one of a webhook, or the proxy.
type tenancyProcess struct {
	name, program string
	args          []string
	// ops is where its health is.
	ops string
}

func (l *Lab) tenancyProcesses() []tenancyProcess {
	site, err := l.site()
	if l.state.NoTenancy || err != nil {
		return nil
	}
	var all []tenancyProcess
	for _, program := range site.Programs() {
		for number := 1; number <= site.Replicas; number++ {
			all = append(all, tenancyProcess{
				name: fmt.Sprintf("%s-%d", program.Name, number), program: program.Name,
				args: program.Args(number), ops: program.OpsAddress(number),
			})
		}
	}
	return all
}

// TenancyProcesses are the names of the processes of the webhooks, such as kube-mt-authz-2, and of the proxy. None is in a lab without tenants.
func (l *Lab) TenancyProcesses() []string {
	var names []string
	for _, one := range l.tenancyProcesses() {
		names = append(names, one.name)
	}
	return names
}

// StartTenancyProcess starts a webhook's process unless it runs. A test may have killed it: the lab starts none again.
func (l *Lab) StartTenancyProcess(ctx context.Context, name string) error {
	if running, err := l.Process(name); err == nil && running.Alive() {
		return nil
	}
	all := l.tenancyProcesses()
	at := slices.IndexFunc(all, func(one tenancyProcess) bool { return one.name == name })
	if at < 0 {
		return fmt.Errorf("the lab has no process %s", name)
	}
	one := all[at]
	_, err := l.Start(ctx, proc.Spec{Name: name, Path: filepath.Join(l.state.Programs, one.program), Args: one.args})
	return err
}

// AwaitTenancyProcess returns when a webhook's process is ready to answer.
func (l *Lab) AwaitTenancyProcess(ctx context.Context, name string) error {
	for _, one := range l.tenancyProcesses() {
		if one.name == name {
			return l.awaitTenancyProcess(ctx, one)
		}
	}
	return fmt.Errorf("the lab has no process %s", name)
}

func (l *Lab) awaitWebhooks(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, one := range l.tenancyProcesses() {
		group.Go(func() error { return l.awaitTenancyProcess(ctx, one) })
	}
	return group.Wait()
}

func (l *Lab) awaitTenancyProcess(ctx context.Context, one tenancyProcess) error {
	process, err := l.Process(one.name)
	if err != nil {
		return err
	}
	transport := &http.Transport{DialContext: network.Dialer(l.NetNS())}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: probeTimeout}
	ctx, cancel := context.WithTimeout(ctx, servicesTimeout)
	defer cancel()
	for {
		err := ready(ctx, client, "http://"+one.ops+"/readyz")
		if err == nil {
			return nil
		}
		if !process.Alive() {
			return fmt.Errorf("%s ended; the end of its log:\n%s", one.name, tail(process.Spec().LogFile))
		}
		pause(ctx, probeInterval)
		if ctx.Err() != nil {
			return fmt.Errorf("%s is not ready: %w", one.name, err)
		}
	}
}

func ready(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", answer.Status)
	}
	return errors.Join(err, answer.Body.Close())
}
