// SPDX-License-Identifier: Apache-2.0

package joiner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudveneto/caas/internal/lab/hypervisor"
	"github.com/cloudveneto/caas/internal/logging"
)

// Options are what a server does otherwise than a kubelet would.
type Options struct {
	// Boot is the time from being switched on to the first request.
	Boot time.Duration
	// Never keeps the server from joining.
	Never bool
	// ClientName is the common name to ask a client certificate for, instead of the node's.
	ClientName string
	// Again asks for a second client certificate with the same token and another key, once
	// the node is Ready.
	Again bool
	// ServingIPs are put into the request for a serving certificate beside the server's own.
	ServingIPs []net.IP
	// ServingNames are, too.
	ServingNames []string
}

// Config describes a driver.
type Config struct {
	// Dial reaches the API server; the process' own network when nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// HeartBeat is how often a lease is renewed; 10 s when 0.
	HeartBeat time.Duration
	// Retry is the time between two attempts at what did not succeed; 1 s when 0.
	Retry time.Duration
	// Version is the kubelet's that nodes say to have; v1.35.4 when empty.
	Version string
	// Options, when not nil, are asked for each time that a server is switched on.
	Options func(hypervisor.Server) Options
}

// State says how far a server is.
type State string

// The states of a server, in the order in which one that behaves goes through them.
const (
	Off        State = "Off"
	Booting    State = "Booting"
	Requesting State = "Requesting" // the client certificate
	Waiting    State = "Waiting"    // for its Node
	Ready      State = "Ready"
	Refused    State = "Refused" // the client certificate; nothing more is tried
)

// Status is what there is to know of a server.
type Status struct {
	Server hypervisor.Server
	State  State
	// NodeID is the node's name in the user data.
	NodeID string
	// Requests are the names of the certificate requests that it made.
	Requests []string
	// Serving tells whether it got its serving certificate.
	Serving bool
	// Errors are the last ones of each step that did not succeed, by its name: boot, client,
	// node, lease, serving, again.
	Errors map[string]string
}

// Joiner implements hypervisor.Driver.
type Joiner struct {
	config  Config
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows
	servers map[string]*server
	closed  bool
}

// server is one server. Its credentials are its disk: they outlive being switched off.
type server struct {
	hypervisor.Server

	credentials credentials // of the one goroutine that runs at a time
	stop        context.CancelFunc
	done        chan struct{} // closed by that goroutine; nil before the first

	mu      sync.Mutex // guards what follows
	status  Status
	console strings.Builder
}

var errClosed = errors.New("the hypervisor is closed")

// New returns a driver without servers.
func New(config Config) *Joiner {
	if config.HeartBeat == 0 {
		config.HeartBeat = 10 * time.Second
	}
	if config.Retry == 0 {
		config.Retry = time.Second
	}
	if config.Version == "" {
		config.Version = "v1.35.4"
	}
	if config.Options == nil {
		config.Options = func(hypervisor.Server) Options { return Options{} }
	}
	return &Joiner{config: config, servers: map[string]*server{}}
}

// Close switches all servers off and waits for them.
func (j *Joiner) Close() {
	j.mu.Lock()
	j.closed = true
	for _, s := range j.servers {
		if s.stop != nil {
			s.stop()
		}
	}
	j.mu.Unlock()
	j.running.Wait()
}

// Servers are the UUIDs of all servers.
func (j *Joiner) Servers() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Sorted(maps.Keys(j.servers))
}

// Status returns what there is to know of a server; false when there is no such server.
func (j *Joiner) Status(uuid string) (Status, bool) {
	s, err := j.find(uuid)
	if err != nil {
		return Status{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	status.Requests, status.Errors = slices.Clone(status.Requests), maps.Clone(status.Errors)
	return status, true
}

func (j *Joiner) find(uuid string) (*server, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, ok := j.servers[uuid]
	if !ok {
		return nil, fmt.Errorf("server %s: %w", uuid, hypervisor.ErrNotFound)
	}
	return s, nil
}

// Spawn implements hypervisor.Driver. The user data is read at once: a server without any,
// or without what a node needs in it, boots and does nothing, as it would in reality.
func (j *Joiner) Spawn(ctx context.Context, spawned hypervisor.Server) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errClosed
	}
	if j.servers[spawned.UUID] != nil {
		return nil
	}
	s := &server{Server: spawned, status: Status{Server: spawned, State: Off}}
	j.servers[spawned.UUID] = s
	j.switchOn(ctx, s)
	return nil
}

// switchOn starts a server's goroutine. The caller holds the lock.
func (j *Joiner) switchOn(ctx context.Context, s *server) {
	ctx, s.stop = context.WithCancel(logging.Into(context.WithoutCancel(ctx), logging.From(ctx).With("server", s.Server)))
	done := make(chan struct{})
	s.done = done
	options := j.config.Options(s.Server)
	j.running.Go(func() {
		defer close(done)
		defer s.set(Off)
		j.run(ctx, s, options)
	})
}

// Destroy implements hypervisor.Driver.
func (j *Joiner) Destroy(ctx context.Context, uuid string) error {
	if err := j.PowerOff(ctx, uuid); err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.servers, uuid)
	return nil
}

// PowerOn implements hypervisor.Driver.
func (j *Joiner) PowerOn(ctx context.Context, uuid string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, ok := j.servers[uuid]
	if !ok {
		return fmt.Errorf("server %s: %w", uuid, hypervisor.ErrNotFound)
	}
	if j.closed {
		return errClosed
	}
	select {
	case <-s.done:
		j.switchOn(ctx, s)
	default: // it is on
	}
	return nil
}

// PowerOff implements hypervisor.Driver.
func (j *Joiner) PowerOff(ctx context.Context, uuid string) error {
	j.mu.Lock()
	s, ok := j.servers[uuid]
	if !ok {
		j.mu.Unlock()
		return fmt.Errorf("server %s: %w", uuid, hypervisor.ErrNotFound)
	}
	s.stop()
	done := s.done
	j.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("switch off server %s: %w", uuid, ctx.Err())
	}
}

// Reboot implements hypervisor.Driver.
func (j *Joiner) Reboot(ctx context.Context, uuid string) error {
	if err := j.PowerOff(ctx, uuid); err != nil {
		return err
	}
	return j.PowerOn(ctx, uuid)
}

// Console implements hypervisor.Driver.
func (j *Joiner) Console(_ context.Context, uuid string) ([]byte, error) {
	s, err := j.find(uuid)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return []byte(s.console.String()), nil
}

// set changes the state and prints it.
func (s *server) set(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.State == state {
		return
	}
	s.status.State = state
	fmt.Fprintf(&s.console, "%s %s\n", time.Now().UTC().Format(time.RFC3339), state)
}

// report notes how a step went; nil takes an earlier error back.
func (s *server) report(ctx context.Context, step string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || ctx.Err() != nil {
		delete(s.status.Errors, step)
		return
	}
	if s.status.Errors == nil {
		s.status.Errors = map[string]string{}
	}
	if s.status.Errors[step] != err.Error() {
		fmt.Fprintf(&s.console, "%s %s: %v\n", time.Now().UTC().Format(time.RFC3339), step, err)
	}
	s.status.Errors[step] = err.Error()
}

func (s *server) requested(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.status.Requests, name) {
		s.status.Requests = append(s.status.Requests, name)
	}
}
