// SPDX-License-Identifier: Apache-2.0

package externalgrpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/osnode/pool"
)

const (
	// callTimeout bounds a call; cluster-autoscaler itself waits five seconds by default.
	callTimeout = 30 * time.Second
	stopTimeout = 5 * time.Second
	idleTimeout = 15 * time.Minute
	maxRequest  = 1 << 20
)

// Groups are the pools as this package needs them; *pool.Pools is it. Errors are
// pool.ErrNoGroup, pool.ErrLimit and pool.ErrBusy, or others.
type Groups interface {
	Sizes
	// ExternalGroups are all groups; GroupOf is that of one node.
	ExternalGroups(ctx context.Context) ([]pool.Group, error)
	GroupOf(ctx context.Context, instance string) (pool.Group, error)
	// Instances are a group's nodes, TemplateNode is what a new one will be like.
	Instances(ctx context.Context, id pool.GroupID) ([]pool.Instance, error)
	TemplateNode(ctx context.Context, id pool.GroupID) (*corev1.Node, error)
	// IdleTTL is how long a node may be without use.
	IdleTTL(ctx context.Context, id pool.GroupID) (*metav1.Duration, error)
}

// Sizes changes the sizes of groups.
type Sizes interface {
	Grow(ctx context.Context, id pool.GroupID, count int) error
	// Shrink takes back only what is not a node yet.
	Shrink(ctx context.Context, id pool.GroupID, count int) error
	Remove(ctx context.Context, id pool.GroupID, instances []string) error
}

// Config is what a Server is made of.
type Config struct {
	Groups Groups
	// Address is where to listen; Listener, if not nil, is used instead.
	Address  string
	Listener net.Listener
	TLS      Files
	// Clients are the names, of a certificate's subject or as DNS names in it, that may call;
	// empty means everybody with a certificate of the CA.
	Clients []string
}

// Files are the server's certificate and key, and the CA of its clients. They are read
// again for each connection, so that they can be renewed.
type Files struct{ Certificate, Key, ClientCA string }

// Server serves pools to cluster-autoscaler.
type Server struct {
	config Config
}

// New checks the configuration, and that the files can be read.
func New(config Config) (*Server, error) {
	var errs []error
	if config.Groups == nil {
		errs = append(errs, errors.New("groups are missing"))
	}
	if config.Listener == nil && config.Address == "" {
		errs = append(errs, errors.New("an address is missing"))
	}
	if _, err := config.TLS.load(config.Clients); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("server for cluster-autoscaler: %w", err)
	}
	return &Server{config: config}, nil
}

func (f Files) load(clients []string) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", f.ClientCA)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities,
		VerifyConnection: func(state tls.ConnectionState) error { return allowed(state.PeerCertificates[0], clients) },
	}, nil
}

func allowed(client *x509.Certificate, names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if client.Subject.CommonName == name || client.VerifyHostname(name) == nil {
			return nil
		}
	}
	return fmt.Errorf("the certificate of %q is not one of those that may call", client.Subject.CommonName)
}

// NeedLeaderElection tells a manager that only the leader may serve.
func (s *Server) NeedLeaderElection() bool { return true }

// Start serves until ctx ends, and lets calls finish then.
func (s *Server) Start(ctx context.Context) error {
	listener := s.config.Listener
	if listener == nil {
		var err error
		if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", s.config.Address); err != nil {
			return fmt.Errorf("listen for cluster-autoscaler: %w", err)
		}
	}
	logger := logging.From(ctx)
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.config.TLS.load(s.config.Clients) },
		})),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout}),
		grpc.ConnectionTimeout(callTimeout),
		grpc.UnaryInterceptor(func(call context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			call, cancel := context.WithTimeout(logging.Into(call, logger), callTimeout)
			defer cancel()
			response, err := handle(call, request)
			if err != nil {
				logger.DebugContext(call, "refused call of cluster-autoscaler", "method", info.FullMethod, "error", err)
			}
			return response, wireError(err)
		}),
	)
	RegisterCloudProviderServer(server, s)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve cluster-autoscaler: %w", err)
	case <-ctx.Done():
	}
	stop(server)
	if err := <-ended; err != nil {
		logger.DebugContext(ctx, "stopped serving cluster-autoscaler", "error", err)
	}
	return nil
}

// stop lets calls finish, but not for ever.
func stop(server *grpc.Server) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.GracefulStop()
	}()
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		server.Stop()
		<-done
	}
}
