// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/unit"
)

type state string

const (
	inactive     state = "inactive"
	activating   state = "activating"
	active       state = "active"
	deactivating state = "deactivating"
	failed       state = "failed"
)

// service is a service that runs, ran, or may run.
type service struct {
	name string
	// operation is held by whoever starts or stops the service.
	operation sync.Mutex

	mu      sync.Mutex // guards what follows
	state   state
	mainPID int
	since   time.Time
	life    *life // nil when nothing supervises the service
}

// life is one run of a service, with its restarts.
type life struct {
	stop chan struct{} // closed to end it, by end
	done chan struct{} // closed when it has ended, by the supervisor
}

func (s *service) set(state state, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != state {
		s.since = time.Now()
	}
	s.state, s.mainPID = state, pid
}

func (s *service) current() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *service) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mainPID
}

// begin makes a new life.
func (s *service) begin() *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = &life{stop: make(chan struct{}), done: make(chan struct{})}
	return s.life
}

// end ends the service's life, if it has one, and waits. The caller holds operation.
func (s *service) end() {
	s.mu.Lock()
	life := s.life
	s.life = nil
	s.mu.Unlock()
	if life == nil {
		s.set(inactive, 0) // also one that only remained active after it exited
		return
	}
	close(life.stop)
	<-life.done
	s.set(inactive, 0)
}

// process is the main process of a service.
type process struct {
	pid    int
	ended  <-chan unix.WaitStatus
	notify *notifications
}

// launch starts a service for the first time and returns when it is active.
func (m *manager) launch(ctx context.Context, s *service, loaded *unit.Unit) error {
	s.set(activating, 0)
	j, err := newJob(loaded, 0)
	if err != nil {
		return err
	}
	switch loaded.Last("Service", "Type") {
	case "oneshot", "forking":
		return m.runToEnd(ctx, s, j)
	default:
	}
	main, err := m.startMain(ctx, s, j, nil)
	if err != nil && !j.retries() {
		return err
	}
	life := s.begin()
	m.supervising.Go(func() {
		defer close(life.done)
		m.supervise(ctx, s, j, main, life)
	})
	return err
}

// runToEnd runs a service whose commands end.
func (m *manager) runToEnd(ctx context.Context, s *service, j *job) error {
	for _, key := range []string{"ExecStartPre", "ExecStart", "ExecStartPost"} {
		commands, err := j.unit.Commands(key, j.variables)
		if err != nil {
			return err
		}
		if err := m.runAll(ctx, j, commands); err != nil {
			return err
		}
	}
	if j.unit.Last("Service", "Type") == "forking" || j.unit.Bool("Service", "RemainAfterExit", false) {
		s.set(active, 0)
	} else {
		s.set(inactive, 0)
	}
	return nil
}

// runAll runs commands one after the other.
func (m *manager) runAll(ctx context.Context, j *job, commands []unit.Command) error {
	if limit := j.unit.Duration("TimeoutStartSec", defaultTimeout); limit > 0 && j.unit.Last("Service", "Type") != "oneshot" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	for _, command := range commands {
		status, err := m.children.Run(ctx, j.program(command))
		if err == nil && status != 0 {
			err = fmt.Errorf("%s ended with %d", command.Path, status)
		}
		if err != nil && !command.MayFail {
			return err
		}
	}
	return nil
}

// startMain starts the main process and waits until it says that it is ready, if it does.
// stop, when not nil, ends the waiting.
func (m *manager) startMain(ctx context.Context, s *service, j *job, stop <-chan struct{}) (*process, error) {
	before, err := j.unit.Commands("ExecStartPre", j.variables)
	if err != nil {
		return nil, err
	}
	if err := m.runAll(ctx, j, before); err != nil {
		return nil, err
	}
	notifies := j.unit.Last("Service", "Type") == "notify" || j.unit.Last("Service", "Type") == "notify-reload"
	main := &process{}
	if notifies {
		if main.notify, err = listenNotify(ctx, j.unit.Name); err != nil {
			return nil, err
		}
		j.variables["NOTIFY_SOCKET"] = main.notify.path
	}
	commands, err := j.unit.Commands("ExecStart", j.variables)
	if err == nil && len(commands) != 1 {
		err = fmt.Errorf("%s has %d ExecStart lines instead of one", j.unit.Name, len(commands))
	}
	if err != nil {
		return nil, errors.Join(err, main.notify.close())
	}
	ended, started, err := m.children.Start(ctx, j.program(commands[0]))
	if err != nil {
		return nil, errors.Join(err, main.notify.close())
	}
	main.pid, main.ended = started.Pid, ended
	_ = started.Release()
	s.set(activating, main.pid)
	if err := main.awaitReady(ctx, j, stop); err != nil {
		main.terminate(j)
		return nil, errors.Join(err, main.notify.close())
	}
	s.set(active, main.pid)
	after, err := j.unit.Commands("ExecStartPost", j.variables)
	if err == nil {
		err = m.runAll(ctx, j, after)
	}
	if err != nil {
		main.terminate(j)
		return nil, errors.Join(err, main.notify.close())
	}
	return main, nil
}

// awaitReady returns at once for a service that does not say when it is ready.
func (p *process) awaitReady(ctx context.Context, j *job, stop <-chan struct{}) error {
	if p.notify == nil {
		return nil
	}
	var expired <-chan time.Time
	if limit := j.unit.Duration("TimeoutStartSec", defaultTimeout); limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-p.notify.ready:
		return nil
	case status := <-p.ended:
		p.ended = nil
		return fmt.Errorf("it ended with %s before it was ready", describe(status))
	case <-expired:
		return errors.New("it does not say that it is ready")
	case <-stop:
		return errors.New("it was stopped before it was ready")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return "signal " + unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("code %d", status.ExitStatus())
}

// terminate ends a process as its unit says, by force if it does not end in time.
func (p *process) terminate(j *job) {
	if p.ended == nil {
		return // it has ended
	}
	target := p.pid
	if j.wholeGroup() {
		target = -p.pid // each service's process leads a group
	}
	_ = unix.Kill(target, j.signal())
	var expired <-chan time.Time
	if limit := j.unit.Duration("TimeoutStopSec", defaultTimeout); limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-p.ended:
	case <-expired:
		_ = unix.Kill(target, unix.SIGKILL)
		<-p.ended
	}
	if j.wholeGroup() {
		_ = unix.Kill(-p.pid, unix.SIGKILL) // those that outlived their leader
	}
	p.ended = nil
}
