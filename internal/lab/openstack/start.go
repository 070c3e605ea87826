// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	startTimeout   = 6 * time.Minute
	cleanupTimeout = time.Minute
	probeInterval  = 50 * time.Millisecond
	probeTimeout   = 2 * time.Second
)

// The processes.
const (
	keystone  = "keystone"
	placement = "placement"
	glance    = "glance"
	neutron   = "neutron"
	nova      = "nova"
	libvirtd  = "libvirtd"
)

// Start starts the site, or whatever is missing of it, and returns when all services answer and all users, projects,
// networks, flavors and images are there. A site that was stopped has what it had. On an error of a site that did not run
// before nothing is left running.
func Start(ctx context.Context, cfg Config) (*Site, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("start OpenStack: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("start OpenStack: its services run as root here")
	}
	if err := Missing(cfg.Driver); err != nil {
		return nil, fmt.Errorf("start OpenStack: %w", err)
	}
	known, err := load(cfg.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("start OpenStack: %w", err)
	case known.Config.Address != cfg.Address || known.Config.Region != cfg.Region || !cfg.continues(known.Config.Driver):
		return nil, fmt.Errorf("start OpenStack: the site in %s has another address, region or driver", cfg.Dir)
	}
	site := newSite(cfg, known)
	ran := len(site.running()) > 0
	if err := site.start(ctx); err != nil {
		err = fmt.Errorf("start OpenStack: %w", err)
		if ran {
			return nil, err
		}
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		return nil, errors.Join(err, site.Stop(cleanup))
	}
	return site, nil
}

func (s *Site) start(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	template, err := s.cfg.databaseTemplate(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	l, err := s.layout()
	if err != nil {
		return err
	}
	if err := l.write(); err != nil {
		return err
	}
	if err := s.copyDatabases(ctx, template, l); err != nil {
		return err
	}
	if err := s.change(ctx, func(*state) {}); err != nil {
		return err
	}
	s.cfg.Progress("starting services")
	running := map[string]*proc.Process{}
	for _, spec := range s.cfg.specs(l) {
		process, err := proc.Start(ctx, s.cfg.runDir(), spec)
		if errors.Is(err, proc.ErrRunning) {
			process, err = proc.Load(s.cfg.runDir(), spec.Name)
		}
		if err != nil {
			return err
		}
		running[spec.Name] = process
	}
	return s.furnish(ctx, running)
}

// layout is the site's files. The passwords of OpenStack's own users are made here.
func (s *Site) layout() (layout, error) {
	if _, err := s.ensurePassword(adminUser); err != nil {
		return layout{}, err
	}
	secret, err := s.ensurePassword(serviceUser)
	if err != nil {
		return layout{}, err
	}
	l := layout{
		Dir: s.cfg.Dir, Region: s.cfg.Region, ServicePassword: secret, KeystoneURL: s.AuthURL(), Address: s.cfg.Address.String(),
		Libvirt:          s.cfg.Driver == Libvirt,
		KeystoneSockets:  []string{"http-socket = " + s.cfg.at(keystonePort)},
		PlacementSockets: []string{"http-socket = " + s.cfg.at(placementPort)},
	}
	if tls := s.cfg.KeystoneTLS; tls != nil {
		l.KeystoneSockets = append(l.KeystoneSockets, fmt.Sprintf("https-socket = %s,%s,%s", s.cfg.at(keystoneTLSPort), tls.CertFile, tls.KeyFile))
	}
	return l, nil
}

// copyDatabases gives a site the databases that it has not.
func (s *Site) copyDatabases(ctx context.Context, template string, l layout) error {
	final := l.path("db")
	missing := slices.DeleteFunc(s.cfg.databases(), func(name string) bool { return exists(filepath.Join(final, name+".db")) })
	if len(missing) == 0 {
		return nil
	}
	s.cfg.Progress("copying databases")
	tmp := l.path("db.new")
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	for _, name := range missing {
		if err := copyFile(filepath.Join(template, name+".db"), filepath.Join(tmp, name+".db")); err != nil {
			return err
		}
	}
	if err := s.personalise(ctx, l, missing); err != nil {
		return err
	}
	for _, name := range missing {
		if err := os.Rename(filepath.Join(tmp, name+".db"), filepath.Join(final, name+".db")); err != nil {
			return err
		}
	}
	return os.Remove(tmp)
}

// personalise makes copies of the template's databases the site's own.
func (s *Site) personalise(ctx context.Context, l layout, names []string) error {
	copied := func(name string) string { return filepath.Join(l.path("db.new"), name+".db") }
	wanted := object{}
	if slices.Contains(names, keystone) {
		passwords, err := s.passwords(adminUser, serviceUser)
		if err != nil {
			return err
		}
		wanted["keystone"], wanted["passwords"] = copied(keystone), passwords
		wanted["endpoints"] = []string{"//" + templateHost + ":", "//" + strings.TrimSuffix(s.cfg.at(0), "0")}
	}
	if slices.Contains(names, "nova_api") {
		cell := func(name string) string { return "sqlite:///" + l.path("db", "nova_"+name+".db") }
		wanted["nova_api"], wanted["transport"] = copied("nova_api"), "fake:///"
		wanted["cells"] = map[string]string{"cell0": cell("cell0"), "cell1": cell("cell1")}
	}
	input, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	return tool{path: python, args: []string{l.path("personalise.py")}, env: l.environment(), input: input}.run(ctx)
}

func (s *Site) passwords(users ...string) (map[string]string, error) {
	all := map[string]string{}
	for _, user := range users {
		secret, err := s.Password(user)
		if err != nil {
			return nil, err
		}
		all[user] = secret
	}
	return all, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(filepath.Clean(from))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(filepath.Clean(to), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// continues tells whether a site that was started with an earlier driver can be started with this one.
func (c Config) continues(earlier Driver) bool { return c.Driver == earlier || earlier == Identity }

// processes are the names of the site's processes, in the order in which they are stopped.
func (c Config) processes() []string {
	if c.Driver == Identity {
		return []string{keystone}
	}
	all := []string{nova, neutron, glance, placement, keystone}
	if c.Driver == Libvirt {
		all = append(all, libvirtd)
	}
	return all
}

// specs are the site's processes. They may start together: who needs another waits for it.
func (c Config) specs(l layout) []proc.Spec {
	configuration := func(service string) []string {
		return []string{"--config-file", l.path("etc", service+".conf"), "--config-dir", l.path("etc", "empty")}
	}
	await := []string{c.at(keystonePort), c.at(placementPort)}
	if c.Driver == Libvirt {
		await = append(await, l.libvirtSocket())
	}
	computes := make([]string, c.Computes)
	for i := range computes {
		computes[i] = "compute-" + strconv.Itoa(i+1)
	}
	size := c.Capacity
	all := []proc.Spec{
		{Name: keystone, Path: uwsgi, Args: []string{"--ini", l.path("etc", "keystone.ini")}},
		{Name: placement, Path: uwsgi, Args: []string{"--ini", l.path("etc", "placement.ini")}},
		{Name: nova, Path: python, Args: append([]string{l.path("nova_in_one.py")}, configuration(nova)...), Env: []string{
			"CAAS_LAB_COMPUTES=" + strings.Join(computes, " "),
			"CAAS_LAB_AWAIT=" + strings.Join(await, " "),
			"CAAS_LAB_HYPERVISOR=" + c.HypervisorSocket,
			fmt.Sprintf("CAAS_LAB_CAPACITY=%d,%d,%d,%d", size.VCPUs, size.MemoryMiB, size.DiskGiB, size.GPUs),
		}},
		{Name: neutron, Path: "/usr/bin/neutron-server", Args: configuration(neutron), Env: []string{"CAAS_LAB_BRIDGE=" + c.Bridge}},
		{Name: glance, Path: "/usr/bin/glance-api", Args: configuration(glance)},
	}
	if c.Driver == Libvirt {
		all = append(all, c.libvirtd(l))
	}
	all = slices.DeleteFunc(all, func(one proc.Spec) bool { return !slices.Contains(c.processes(), one.Name) })
	for i := range all {
		one := &all[i]
		one.Env = append(l.environment(), one.Env...)
		one.Dir, one.NetNS, one.LogFile, one.EndWithStarter = "/", c.NetNS, c.logFile(one.Name), c.EndWithStarter
	}
	return all
}

// await returns when the processes listen.
func (s *Site) await(ctx context.Context, running map[string]*proc.Process, names ...string) error {
	ports := map[string]int{keystone: keystonePort, placement: placementPort, glance: glancePort, neutron: neutronPort, nova: novaPort}
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range names {
		group.Go(func() error { return awaitPort(ctx, running[name], s.cfg.dialer(), s.cfg.at(ports[name])) })
	}
	return group.Wait()
}

// awaitPort returns when the process that is to listen on address does so.
func awaitPort(ctx context.Context, process *proc.Process, dial func(ctx context.Context, network, address string) (net.Conn, error), address string) error {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		probe, done := context.WithTimeout(ctx, probeTimeout)
		conn, err := dial(probe, "tcp", address)
		done()
		if err == nil {
			return conn.Close()
		}
		if !process.Alive() {
			return fmt.Errorf("%s ended; the end of its log:\n%s", process.Name(), tail(process.Spec().LogFile))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w; the end of its log:\n%s", process.Name(), address, err, tail(process.Spec().LogFile))
		case <-ticker.C:
		}
	}
}

// tail returns the end of a log.
func tail(path string) string {
	const length = 3000
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data[max(0, len(data)-length):]))
}
