// SPDX-License-Identifier: Apache-2.0

// Package dns runs a cluster's name server: CoreDNS as a process in the cluster
// LAN's network namespace, where it is there before the first node and does not go
// away with one.
package dns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	readyTimeout  = 30 * time.Second
	probeTimeout  = 2 * time.Second
	probeInterval = 50 * time.Millisecond

	dnsPort, readyPort = 53, 8181
)

// Config describes a name server. All fields without a default are required.
type Config struct {
	// Name names the process and its files.
	Name string
	// Binary is the CoreDNS program.
	Binary string
	// Dir is where its configuration is written and its process record and log are kept.
	Dir string
	// NetNS is the path of the network namespace it runs in; the caller's when empty.
	NetNS string
	// Address is where it listens: on port 53, and for readiness on port 8181.
	Address netip.Addr
	// Kubeconfig is how it reaches the cluster's API server, as User.
	Kubeconfig string
	// Domain is the cluster's zone; cluster.local when empty.
	Domain string
	// Alias is a further name of the zone, by which other clusters' pods can ask for
	// this cluster's Services.
	Alias string
	// Peers are the name servers of other clusters by their aliases.
	Peers map[string]netip.Addr
}

func (c *Config) complete() error {
	if c.Domain == "" {
		c.Domain = "cluster.local"
	}
	var problems []error
	for field, value := range map[string]string{"name": c.Name, "binary": c.Binary, "dir": c.Dir, "kubeconfig": c.Kubeconfig} {
		if value == "" {
			problems = append(problems, fmt.Errorf("%s is required", field))
		}
	}
	if !c.Address.IsValid() {
		problems = append(problems, errors.New("address is required"))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("name server %q: %w", c.Name, err)
	}
	return nil
}

// Corefile is CoreDNS's configuration. Services and pods have addresses of their own
// cluster; a name that no cluster knows does not exist, at once, since there is no
// other name server to ask.
func Corefile(config Config) (string, error) {
	if err := config.complete(); err != nil {
		return "", err
	}
	zones := []string{config.Domain}
	if config.Alias != "" && config.Alias != config.Domain {
		zones = append(zones, config.Alias)
	}
	zones = append(zones, "in-addr.arpa", "ip6.arpa")
	var out strings.Builder
	block := func(zones []string, lines ...string) {
		fmt.Fprintf(&out, "%s {\n", strings.Join(zones, " "))
		for _, line := range append([]string{"bind " + config.Address.String(), "errors"}, lines...) {
			fmt.Fprintf(&out, "    %s\n", line)
		}
		out.WriteString("}\n")
	}
	block(zones,
		fmt.Sprintf("ready %s", netip.AddrPortFrom(config.Address, readyPort)),
		"loadbalance",
		fmt.Sprintf("kubernetes %s {", strings.Join(zones, " ")),
		"    kubeconfig "+config.Kubeconfig,
		"    pods insecure",
		"    ttl 5",
		"}")
	for _, zone := range slices.Sorted(maps.Keys(config.Peers)) {
		block([]string{zone}, fmt.Sprintf("forward . %s", netip.AddrPortFrom(config.Peers[zone], dnsPort)))
	}
	block([]string{"."}, "template ANY ANY {", "    rcode NXDOMAIN", "}") //nolint:dupword // any class, any type
	return out.String(), nil
}

// Start runs the name server and returns when it answers. One that runs already is
// left alone; with another configuration it is replaced.
func Start(ctx context.Context, config Config) (*proc.Process, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	corefile, err := Corefile(config)
	if err != nil {
		return nil, err
	}
	process, err := start(ctx, config, corefile)
	if err != nil {
		return nil, fmt.Errorf("start name server %q: %w", config.Name, err)
	}
	return process, nil
}

func start(ctx context.Context, config Config, corefile string) (*proc.Process, error) {
	path := filepath.Join(config.Dir, config.Name+".corefile")
	old, err := os.ReadFile(filepath.Clean(path))
	same := err == nil && string(old) == corefile
	if process, err := proc.Load(config.Dir, config.Name); err == nil {
		if process.Alive() && same {
			return process, await(ctx, config, process)
		}
		if err := process.Kill(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(config.Dir, 0o750); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, []byte(corefile), 0o600); err != nil {
		return nil, err
	}
	process, err := proc.Start(ctx, config.Dir, proc.Spec{
		Name: config.Name, Path: config.Binary, Args: []string{"-conf", path}, NetNS: config.NetNS,
	})
	if err != nil {
		return nil, err
	}
	if err := await(ctx, config, process); err != nil {
		return nil, errors.Join(err, process.Kill())
	}
	return process, nil
}

// await returns when the name server has all Services and answers.
func await(ctx context.Context, config Config, process *proc.Process) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	dial := (&net.Dialer{}).DialContext
	if config.NetNS != "" {
		dial = network.Dialer(config.NetNS)
	}
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		err := probe(ctx, config, dial)
		if err == nil {
			return nil
		}
		if !process.Alive() {
			return fmt.Errorf("it ended; see %s", process.Spec().LogFile)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not become ready (%w); see %s", err, process.Spec().LogFile)
		case <-ticker.C:
		}
	}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// probe asks the name server whether it is ready, and then a question: it calls itself
// ready a moment before it listens for those.
func probe(ctx context.Context, config Config, dial dialFunc) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: dial}
	url := fmt.Sprintf("http://%s/ready", netip.AddrPortFrom(config.Address, readyPort))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("readiness probe: status %d", response.StatusCode)
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dial(ctx, network, netip.AddrPortFrom(config.Address, dnsPort).String())
	}}
	_, err = resolver.LookupHost(ctx, "kubernetes.default.svc."+strings.TrimSuffix(config.Domain, ".")+".")
	if answer := new(net.DNSError); errors.As(err, &answer) && answer.IsNotFound {
		return nil // an answer as well
	}
	return err
}
