// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Complete fills in the defaults that are this project's own.
func (s *Settings) Complete() {
	s.OpsAddress = orDefault(s.OpsAddress, "127.0.0.1:9090")
	s.SidecarCreateForm = orDefault(s.SidecarCreateForm, CreateObject)
	s.Pprof.Address = orDefault(s.Pprof.Address, "127.0.0.1")
	s.Pprof.Port = orDefault(s.Pprof.Port, "6061")
}

// problems collects everything that is wrong, so that it is reported at once.
type problems []error

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p *problems) check(bad bool, format string, args ...any) {
	if bad {
		p.add(format, args...)
	}
}

// Validate reports all problems at once, each with its key and value.
// insecureNoAuth allows everybody who can connect, on any address.
func (s *Settings) Validate(insecureNoAuth bool) error {
	p := &problems{}
	s.validateListen(p)
	s.validatePlugin(p)
	s.validateAuth(p, insecureNoAuth)
	s.validateLimits(p)
	p.check(s.JobScriptTemplate != "", "JobScriptTemplate %q: templates are not supported; use a job script builder (JobScriptURLs) or let the plugin build the script", s.JobScriptTemplate)
	p.check(len(s.JobScriptURLs) > 0 && s.JobScriptBuildConfig == nil, "JobScriptURLs: JobScriptBuildConfig is needed with it")
	for _, address := range s.JobScriptURLs {
		u, err := url.Parse(address)
		p.check(err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"), "JobScriptURLs %q: want http://… or https://…", address)
	}
	p.check(s.VerboseLogging && s.ErrorsOnlyLogging, "VerboseLogging and ErrorsOnlyLogging cannot both be true")
	if s.OpsAddress != "none" {
		_, _, err := net.SplitHostPort(s.OpsAddress)
		p.check(err != nil, "OpsAddress %q: want host:port or none", s.OpsAddress)
	}
	return errors.Join(*p...)
}

func (s *Settings) validateListen(p *problems) {
	address, secure, err := listenAddress(s.InterlinkAddress, s.InterlinkPort)
	if err != nil {
		p.add("InterlinkAddress %q with InterlinkPort %q: %w", s.InterlinkAddress, s.InterlinkPort, err)
		return
	}
	p.check(secure && (s.TLS.CertFile == "" || s.TLS.KeyFile == ""), "TLS.CertFile %q, TLS.KeyFile %q: both are needed for InterlinkAddress %q", s.TLS.CertFile, s.TLS.KeyFile, s.InterlinkAddress)
	p.check(!secure && s.TLS.Enabled, "TLS.Enabled true: InterlinkAddress %q must start with https:// for that", s.InterlinkAddress)
	p.check(!secure && s.TLS.CACertFile != "" && !s.TLS.Enabled, "TLS.CACertFile %q: client certificates need an https:// InterlinkAddress, not %q", s.TLS.CACertFile, address)
}

func (s *Settings) validatePlugin(p *problems) {
	address, err := pluginAddress(s.SidecarURL, s.SidecarPort)
	if err != nil {
		p.add("SidecarURL %q with SidecarPort %q: %w", s.SidecarURL, s.SidecarPort, err)
		return
	}
	t := s.SidecarTLS
	p.check((t.CertFile == "") != (t.KeyFile == ""), "SidecarTLS.CertFile %q, SidecarTLS.KeyFile %q: one needs the other", t.CertFile, t.KeyFile)
	p.check(t != SidecarTLSSettings{} && !strings.HasPrefix(address, "https://"), "SidecarTLS: SidecarURL %q must start with https:// for that", s.SidecarURL)
	p.check(s.SidecarCreateForm != CreateObject && s.SidecarCreateForm != CreateArray, "SidecarCreateForm %q: want %s or %s", s.SidecarCreateForm, CreateObject, CreateArray)
}

func (s *Settings) validateAuth(p *problems, insecureNoAuth bool) {
	for i, issuer := range s.Auth.OIDC {
		u, err := url.Parse(issuer.Issuer)
		p.check(err != nil || u.Scheme != "https" || u.Host == "", "Auth.OIDC[%d].Issuer %q: want https://…", i, issuer.Issuer)
		p.check(issuer.Audience == "", "Auth.OIDC[%d].Audience: a value is needed, or tokens made for other services would be accepted", i)
		p.check(issuer.UsernamePrefix != "" && !isName(issuer.UsernamePrefix), "Auth.OIDC[%d].UsernamePrefix %q: want printable ASCII", i, issuer.UsernamePrefix)
	}
	if s.authenticates() || insecureNoAuth {
		return
	}
	address, _, err := listenAddress(s.InterlinkAddress, s.InterlinkPort)
	p.check(err == nil && !isLocal(address), "Auth: nobody would be authenticated on %s; set TLS.CACertFile, Auth.TokenFile or Auth.OIDC, listen on a loopback address or a unix socket, or give --insecure-no-auth", address)
}

// authenticates reports whether callers have to prove who they are.
func (s *Settings) authenticates() bool {
	return s.TLS.CACertFile != "" || s.Auth.TokenFile != "" || len(s.Auth.OIDC) > 0
}

func (s *Settings) validateLimits(p *problems) {
	l, c := s.Limits, s.Cache
	for name, value := range map[string]int64{
		"Limits.MaxBodyBytes": l.MaxBodyBytes, "Limits.MaxBufferedBytes": l.MaxBufferedBytes,
		"Limits.RequestsPerClient": int64(l.RequestsPerClient), "Limits.StreamsPerClient": int64(l.StreamsPerClient),
		"Limits.SessionsPerClient": int64(l.SessionsPerClient), "Limits.Sessions": int64(l.Sessions),
		"StatusCache.MaxPods": int64(c.MaxPods), "StatusCache.MaxBytes": c.MaxBytes,
	} {
		p.check(value < 0, "%s %d: must not be negative", name, value)
	}
	for name, value := range map[string]time.Duration{
		"Limits.Patience": duration(l.Patience), "Limits.PluginTimeout": duration(l.PluginTimeout),
		"Limits.SessionIdle": duration(l.SessionIdle),
		"StatusCache.MaxAge": duration(c.MaxAge), "GracePeriod": duration(s.Grace),
	} {
		p.check(value < 0, "%s %s: must not be negative", name, value)
	}
}

// listenAddress turns upstream's URL and port into an address to listen on.
func listenAddress(address, port string) (listen string, secure bool, err error) {
	u, err := join(address, port)
	if err != nil {
		return "", false, err
	}
	if u.Scheme == "unix" {
		return "unix://" + u.Path, false, nil
	}
	return u.Host, u.Scheme == "https", nil
}

// pluginAddress turns upstream's URL and port into a base URL.
func pluginAddress(address, port string) (string, error) {
	u, err := join(address, port)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// join puts URL and port together. Upstream joins the texts, which breaks when
// the URL ends with a slash or has a port already.
func join(address, port string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("no valid URL")
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return u, nil
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("want http://host, https://host or unix:///path")
	case u.Hostname() == "":
		return nil, errors.New("a host is missing")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return nil, errors.New("want nothing after the host")
	case u.Port() != "" && port != "" && u.Port() != port:
		return nil, errors.New("the port is given twice")
	}
	if port == "" {
		port = u.Port()
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return nil, fmt.Errorf("port %q is no number from 1 to 65535", port)
	}
	return &url.URL{Scheme: u.Scheme, Host: net.JoinHostPort(u.Hostname(), port)}, nil
}

// isLocal reports whether only this machine's processes can connect.
func isLocal(listen string) bool {
	if strings.HasPrefix(listen, "unix://") {
		return true
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	address, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && address.IsLoopback())
}
