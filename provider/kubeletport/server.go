// SPDX-License-Identifier: Apache-2.0

package kubeletport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/log"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	"github.com/virtual-kubelet/virtual-kubelet/node/nodeutil"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/telemetry"
)

// Config is what a Server needs.
type Config struct {
	// Address is host:port.
	Address     string
	NodeName    string
	NodeAddress string
	Client      kubernetes.Interface
	Certificate Certificate
	// ClientCA names a file with the authorities of client certificates, ClientCAs
	// holds them; without either only tokens are accepted.
	ClientCA  string
	ClientCAs []byte
	// Routes are what is served; a nil function answers 501, with a sentence for connections into pods.
	Routes api.PodHandlerConfig
	// Streams serves exec, attach and port-forward; nil answers 501.
	Streams Streams
	// MaxStreams bounds what Streams has open at one time, connections to ports among
	// them; default 512. More are answered 429.
	MaxStreams int
	// Log writes what the libraries say.
	Log log.Logger
}

// Server is the kubelet API of one node.
type Server struct {
	listener    net.Listener
	http        *http.Server
	certificate source
	clientCA    *dynamiccertificates.DynamicFileCAContent
}

// New listens; nothing is answered before Run.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Address == "" || cfg.NodeName == "" || cfg.Client == nil {
		return nil, errors.New("kubelet port: Address, NodeName and Client are required")
	}
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = 512
	}
	server := &Server{}
	options := []nodeutil.WebhookAuthOption{withTimeout}
	switch {
	case cfg.ClientCA != "":
		content, err := dynamiccertificates.NewDynamicCAContentFromFile("kubelet-client-ca", cfg.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("kubelet port: client authorities: %w", err)
		}
		server.clientCA = content
		options = append(options, withClientCA(content))
	case len(cfg.ClientCAs) > 0:
		content, err := dynamiccertificates.NewStaticCAContent("kubelet-client-ca", cfg.ClientCAs)
		if err != nil {
			return nil, fmt.Errorf("kubelet port: client authorities: %w", err)
		}
		options = append(options, withClientCA(content))
	}
	auth, err := nodeutil.WebhookAuth(cfg.Client, cfg.NodeName, options...)
	if err != nil {
		return nil, fmt.Errorf("kubelet port: authentication: %w", err)
	}
	if server.certificate, err = cfg.Certificate.source(cfg); err != nil {
		return nil, fmt.Errorf("kubelet port: certificate: %w", err)
	}
	server.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("kubelet port: %w", err)
	}
	handler := nodeutil.WithAuth(auth, telemetry.Handler(streamRoutes(cfg.Streams, cfg.MaxStreams, api.PodHandler(cfg.Routes, true)), "kubelet-port"))
	server.http = &http.Server{
		Handler:           withLogger(cfg.Log, handler),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			ClientAuth:     tls.RequestClientCert, // verified by the authenticator
			GetCertificate: server.certificate.get,
			NextProtos:     []string{"h2", "http/1.1"},
		},
	}
	return server, nil
}

// withTimeout bounds how long a caller waits for its token's review.
func withTimeout(cfg *nodeutil.WebhookAuthConfig) error {
	cfg.AuthnConfig.TokenAccessReviewTimeout = 10 * time.Second
	return nil
}

func withClientCA(content dynamiccertificates.CAContentProvider) nodeutil.WebhookAuthOption {
	return func(cfg *nodeutil.WebhookAuthConfig) error {
		cfg.AuthnConfig.ClientCertificateCAContentProvider = content
		return nil
	}
}

// withoutStreams says which connections into pods are not to be had. The library's answer names nothing.
func withoutStreams(next http.Handler) http.Handler {
	commands := map[string]string{"exec": "exec", "attach": "attach", "portForward": "port-forward"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if command := commands[first]; command != "" {
			http.Error(w, "this virtual node does not offer kubectl "+command+"; of a pod's containers it gives the logs", http.StatusNotImplemented)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func withLogger(logger log.Logger, next http.Handler) http.Handler {
	if logger == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(log.WithLogger(r.Context(), logger)))
	})
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx is done; log streams end with it.
func (s *Server) Run(ctx context.Context) error {
	s.certificate.start()
	defer s.certificate.stop()
	if s.clientCA != nil {
		watching, stop := context.WithCancel(ctx)
		defer stop()
		go s.clientCA.Run(watching, 1)
	}
	// Every request's context ends with streams, so that following a log does not
	// hold up the shutdown.
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	s.http.BaseContext = func(net.Listener) context.Context { return streams }
	served := make(chan error, 1)
	go func() { served <- s.http.ServeTLS(s.listener, "", "") }()
	logging.From(ctx).Info("kubelet port serves", "address", s.listener.Addr().String())
	select {
	case err := <-served:
		return fmt.Errorf("kubelet port: %w", err)
	case <-ctx.Done():
	}
	endStreams()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.http.Shutdown(closing); err != nil {
		_ = s.http.Close()
	}
	<-served //nolint:errcheck // it only says that the server was closed
	return nil
}
