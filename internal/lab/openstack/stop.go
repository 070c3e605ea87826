// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/lab/proc"
)

// Stop ends all processes of the site; its databases stay. What servers became is the hypervisor's, but for virtual
// machines of Libvirt, which end. Stopping a site that does not run is no error.
func (s *Site) Stop(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	var errs []error
	if s.cfg.Driver == Libvirt {
		errs = append(errs, s.endMachines(ctx))
	}
	var group errgroup.Group
	for _, process := range s.processes() {
		group.Go(func() error {
			// Nova's privileged helpers end when they notice that it has.
			return errors.Join(process.Stop(ctx, stopGrace), process.EndGroup(ctx, stopGrace))
		})
	}
	return errors.Join(append(errs, group.Wait())...)
}

// running are the processes that run.
func (s *Site) running() []*proc.Process {
	return slices.DeleteFunc(s.processes(), func(process *proc.Process) bool { return !process.Alive() })
}

// processes are those with a record.
func (s *Site) processes() []*proc.Process {
	var all []*proc.Process
	for _, name := range s.cfg.processes() {
		if process, err := proc.Load(s.cfg.runDir(), name); err == nil {
			all = append(all, process)
		}
	}
	return all
}

// Status is what works of a site.
type Status struct {
	// PIDs are the processes that run, by name.
	PIDs map[string]int
	// Down are the names of those that do not.
	Down []string
	// Problems say what else is wrong, for people.
	Problems []string
}

// Healthy tells that everything works.
func (s Status) Healthy() bool { return len(s.Down) == 0 && len(s.Problems) == 0 }

// Status tells which processes run, and whether they answer.
func (s *Site) Status(ctx context.Context) Status {
	status := Status{PIDs: map[string]int{}}
	for _, process := range s.running() {
		status.PIDs[process.Name()] = process.PID()
	}
	for _, name := range s.cfg.processes() {
		if status.PIDs[name] == 0 {
			status.Down = append(status.Down, name)
		}
	}
	if len(status.Down) == 0 {
		status.Problems = s.problems(ctx)
	}
	slices.Sort(status.Down)
	return status
}

// problems logs in and asks every service something.
func (s *Site) problems(ctx context.Context) []string {
	admin, err := s.Admin(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	if s.cfg.Driver == Identity {
		return nil
	}
	var (
		mu   sync.Mutex
		all  []string
		wait sync.WaitGroup
	)
	for service, path := range map[string]string{
		"compute": "/os-services", "network": "/v2.0/networks?limit=1", "image": "/v2/images?limit=1", "placement": "/",
	} {
		wait.Go(func() {
			if err := admin.Do(ctx, http.MethodGet, service, path, nil, nil); err != nil {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, fmt.Sprintf("%s: %v", service, err))
			}
		})
	}
	wait.Wait()
	slices.Sort(all)
	return all
}

// LogFiles are the services' logs, by process.
func (s *Site) LogFiles() map[string]string {
	files := map[string]string{}
	for _, name := range s.cfg.processes() {
		files[name] = s.cfg.logFile(name)
	}
	return files
}
