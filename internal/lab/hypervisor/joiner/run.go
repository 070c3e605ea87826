// SPDX-License-Identifier: Apache-2.0

package joiner

import (
	"context"
	"net"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/logging"
)

// stepTimeout bounds a single attempt; a request for a certificate may wait that long for
// its approval before it is asked after again.
const stepTimeout = 15 * time.Minute

// run is a server from being switched on to being switched off.
func (j *Joiner) run(ctx context.Context, s *server, options Options) {
	s.set(Booting)
	if !sleep(ctx, options.Boot) || options.Never {
		<-ctx.Done()
		return
	}
	seed, err := readSeed(s.UserData)
	s.report(ctx, "boot", err)
	if err != nil {
		<-ctx.Done()
		return
	}
	s.mu.Lock()
	s.status.NodeID = seed.nodeID
	s.mu.Unlock()
	for _, config := range []*rest.Config{seed.bootstrap, seed.anonymous} {
		config.Dial = j.config.Dial
		config.UserAgent = "kubelet/" + j.config.Version
	}
	if s.credentials.certificate == nil && !j.enrol(ctx, s, seed, options) {
		<-ctx.Done()
		return
	}
	config := rest.CopyConfig(seed.anonymous)
	config.CertData, config.KeyData = s.credentials.certificate, s.credentials.key
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		s.report(ctx, "client", err)
		<-ctx.Done()
		return
	}
	j.join(ctx, s, client, seed, options)
}

// enrol gets the client certificate. It tells whether there is one.
func (j *Joiner) enrol(ctx context.Context, s *server, seed *seed, options Options) bool {
	s.set(Requesting)
	name := nodeUserPrefix + seed.nodeID
	if options.ClientName != "" {
		name = options.ClientName
	}
	got, ok := j.request(ctx, s, seed, name, "client")
	if ok {
		s.credentials = got
	}
	return ok
}

// request asks for a client certificate with the bootstrap token until it is answered.
func (j *Joiner) request(ctx context.Context, s *server, seed *seed, name, step string) (credentials, bool) {
	client, err := kubernetes.NewForConfig(seed.bootstrap)
	if err != nil {
		s.report(ctx, step, err)
		return credentials{}, false
	}
	wish, err := clientWish(name)
	if err != nil {
		s.report(ctx, step, err)
		return credentials{}, false
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, stepTimeout)
		got, err := wish.ask(attempt, client, s.requested)
		cancel()
		s.report(ctx, step, err)
		switch {
		case err == nil:
			return got, true
		case denied(err):
			if step == "client" {
				s.set(Refused)
			}
			logging.From(ctx).Info("certificate was refused", "step", step, "error", err)
			return credentials{}, false
		case !sleep(ctx, j.config.Retry):
			return credentials{}, false
		}
	}
}

// denied tells a final answer from a failure; the library has no type for it.
func denied(err error) bool {
	return strings.Contains(err.Error(), "is denied") || strings.Contains(err.Error(), "failed, reason")
}

// serve asks for the serving certificate, as often as it takes.
func (j *Joiner) serve(ctx context.Context, s *server, client kubernetes.Interface, seed *seed, options Options) {
	address, err := s.Address()
	if err != nil {
		s.report(ctx, "serving", err)
		return
	}
	ips := append([]net.IP{address.Addr().AsSlice()}, options.ServingIPs...)
	wish, err := servingWish(nodeUserPrefix+seed.nodeID, append([]string{seed.nodeID}, options.ServingNames...), ips)
	for err == nil {
		attempt, cancel := context.WithTimeout(ctx, stepTimeout)
		_, err = wish.ask(attempt, client, s.requested)
		cancel()
		s.report(ctx, "serving", err)
		if err == nil {
			s.mu.Lock()
			s.status.Serving = true
			s.mu.Unlock()
			return
		}
		if denied(err) || !sleep(ctx, j.config.Retry) {
			return
		}
		err = nil
	}
	s.report(ctx, "serving", err)
}

// sleep waits, and tells whether ctx is still alive then.
func sleep(ctx context.Context, delay time.Duration) bool {
	if delay <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
