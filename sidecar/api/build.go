// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/cloudveneto/caas/internal/httpserver"
)

// Server is the address and TLS part of the server that valid settings describe.
func (s *Settings) Server() (httpserver.Config, error) {
	address, secure, err := listenAddress(s.InterlinkAddress, s.InterlinkPort)
	if err != nil {
		return httpserver.Config{}, fmt.Errorf("listen address: %w", err)
	}
	limits := s.Gateway()
	cfg := httpserver.Config{Name: "api", Address: address, MaxBody: limits.MaxBody, GracePeriod: s.GracePeriod()}
	if secure {
		cfg.TLS = &httpserver.TLS{
			CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile, ClientCAFile: s.TLS.CACertFile,
			// Another way in makes the certificate optional.
			RequireClientCert: s.TLS.CACertFile != "" && s.Auth.TokenFile == "" && len(s.Auth.OIDC) == 0,
		}
	}
	return cfg, nil
}

// Gateway are the limits of the gateway that the settings describe.
func (s *Settings) Gateway() Limits {
	limits := Limits{
		MaxBody:           s.Limits.MaxBodyBytes,
		MaxBuffered:       s.Limits.MaxBufferedBytes,
		RequestsPerClient: s.Limits.RequestsPerClient,
		StreamsPerClient:  s.Limits.StreamsPerClient,
		SessionsPerClient: s.Limits.SessionsPerClient,
		Sessions:          s.Limits.Sessions,
		SessionIdle:       duration(s.Limits.SessionIdle),
		Patience:          duration(s.Limits.Patience),
		PluginTimeout:     duration(s.Limits.PluginTimeout),
	}
	limits.complete()
	return limits
}

// Config is the configuration of the gateway that valid settings describe.
func (s *Settings) Config() (Config, error) {
	address, err := pluginAddress(s.SidecarURL, s.SidecarPort)
	if err != nil {
		return Config{}, fmt.Errorf("plugin address: %w", err)
	}
	cfg := Config{
		PluginURL:  address,
		CreateForm: s.SidecarCreateForm,
		Limits:     s.Gateway(),
		Cache:      CacheLimits{Pods: s.Cache.MaxPods, Bytes: s.Cache.MaxBytes, Age: duration(s.Cache.MaxAge)},
		JobConfig:  s.JobScriptBuildConfig, JobScriptURLs: s.JobScriptURLs,
	}
	if cfg.PluginTLS, err = clientTLS(s.SidecarTLS); err != nil {
		return Config{}, fmt.Errorf("plugin: %w", err)
	}
	if len(s.JobScriptURLs) > 0 {
		cfg.JobScriptClient = outbound(nil, cfg.Limits.PluginTimeout)
	}
	cfg.Authenticate, err = s.authenticator()
	return cfg, err
}

func (s *Settings) authenticator() (Authenticator, error) {
	if !s.authenticates() {
		return nil, nil
	}
	var methods []Authenticator
	if s.TLS.CACertFile != "" {
		methods = append(methods, ClientCertificate)
	}
	if s.Auth.TokenFile != "" {
		tokens, err := NewTokens(s.Auth.TokenFile)
		if err != nil {
			return nil, err
		}
		methods = append(methods, tokens.Authenticate)
	}
	if len(s.Auth.OIDC) > 0 {
		issuers, err := s.issuers()
		if err != nil {
			return nil, err
		}
		provider, err := NewOIDC(issuers)
		if err != nil {
			return nil, err
		}
		methods = append(methods, provider.Authenticate)
	}
	return AnyOf(methods...), nil
}

func (s *Settings) issuers() ([]Issuer, error) {
	var issuers []Issuer
	for _, setting := range s.Auth.OIDC {
		trust, err := clientTLS(SidecarTLSSettings{CACertFile: setting.CACertFile})
		if err != nil {
			return nil, fmt.Errorf("oidc: issuer %s: %w", setting.Issuer, err)
		}
		issuers = append(issuers, Issuer{
			URL: setting.Issuer, Audience: setting.Audience,
			UsernameClaim: setting.UsernameClaim, UsernamePrefix: setting.UsernamePrefix,
			RequiredClaims: setting.RequiredClaims, Groups: setting.Groups, GroupsClaim: setting.GroupsClaim,
			Client: outbound(trust, 10*time.Second),
		})
	}
	return issuers, nil
}

// outbound is a client for a far end other than the plugin; it follows no redirect.
func outbound(trust *tls.Config, timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:     trust,
			TLSHandshakeTimeout: 10 * time.Second,
			IdleConnTimeout:     time.Minute,
			MaxIdleConnsPerHost: 4,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// clientTLS is nil without any setting. The certificate is read again for every
// connection, so that it can be renewed while the program runs.
func clientTLS(settings SidecarTLSSettings) (*tls.Config, error) {
	if settings == (SidecarTLSSettings{}) {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if settings.CACertFile != "" {
		text, err := os.ReadFile(settings.CACertFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate", settings.CACertFile)
		}
	}
	if settings.CertFile != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(settings.CertFile, settings.KeyFile)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return config, nil
}
