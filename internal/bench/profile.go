// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Program is a running program that serves profiles.
type Program struct {
	Name string
	PID  int
	// Ops is the host and port of its operations port.
	Ops string
}

// Profiler asks programs for profiles.
type Profiler struct {
	// Client reaches the operations ports.
	Client *http.Client
	// Dir is where profiles are kept, in a directory for each scenario; empty for nowhere.
	Dir string
	// Slice is how many seconds of a scenario are in one profile of the processor; 0 is 10.
	Slice int
}

// during runs a scenario, and keeps where the programs' processor time went in it, slice by slice (go tool pprof adds
// up what it is given), and what they held in memory at its end.
func (p *Profiler) during(ctx context.Context, scenario string, programs []Program, run func(context.Context) error) error {
	if p.Dir == "" {
		return run(ctx)
	}
	if err := os.MkdirAll(filepath.Join(p.Dir, scenario), 0o755); err != nil { //nolint:gosec // profiles are for everybody
		return fmt.Errorf("keep profiles: %w", err)
	}
	over := make(chan struct{})
	var profiles errgroup.Group
	for _, program := range programs {
		profiles.Go(func() error { return p.slices(ctx, scenario, program, over) })
	}
	err := run(ctx)
	close(over)
	return errors.Join(err, profiles.Wait(), p.snapshot(ctx, scenario, "after", programs))
}

// slices keeps profiles of the processor until the scenario is over.
func (p *Profiler) slices(ctx context.Context, scenario string, program Program, over <-chan struct{}) error {
	seconds := p.Slice
	if seconds == 0 {
		seconds = 10
	}
	for i := 1; ; i++ {
		name := fmt.Sprintf("%s.cpu-%03d.pprof", program.Name, i)
		if err := p.keep(ctx, scenario, name, program, "profile?seconds="+strconv.Itoa(seconds)); err != nil {
			return err
		}
		select {
		case <-over:
			return nil
		default:
		}
	}
}

// snapshot keeps what the programs hold and do at a moment; nothing if no profiles are kept.
func (p *Profiler) snapshot(ctx context.Context, scenario, moment string, programs []Program) error {
	if p.Dir == "" {
		return nil
	}
	var failures error
	for _, program := range programs {
		for kind, query := range map[string]string{"heap": "heap?gc=1", "goroutine": "goroutine"} {
			name := fmt.Sprintf("%s.%s-%s.pprof", program.Name, kind, moment)
			failures = errors.Join(failures, p.keep(ctx, scenario, name, program, query))
		}
	}
	return failures
}

func (p *Profiler) keep(ctx context.Context, scenario, name string, program Program, query string) error {
	profile, err := p.ask(ctx, program, query)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.Dir, scenario, name), profile, 0o644); err != nil { //nolint:gosec // profiles are for everybody
		return fmt.Errorf("keep profile: %w", err)
	}
	return nil
}

// live returns the size of what a program still needs of its heap, after a collection.
func (p *Profiler) live(ctx context.Context, program Program) (float64, error) {
	const field = "# HeapAlloc = "
	text, err := p.ask(ctx, program, "heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if value, found := bytes.CutPrefix(line, []byte(field)); found {
			return strconv.ParseFloat(strings.TrimSpace(string(value)), 64)
		}
	}
	return 0, fmt.Errorf("profile of %s: no line %q", program.Name, field)
}

func (p *Profiler) ask(ctx context.Context, program Program, query string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+program.Ops+"/debug/pprof/"+query, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("profile of %s: %w", program.Name, err)
	}
	answer, err := p.Client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("profile of %s: %w", program.Name, err)
	}
	defer func() { _ = answer.Body.Close() }()
	profile, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("profile of %s: %w", program.Name, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("profile of %s: %s: %s", program.Name, answer.Status, bytes.TrimSpace(profile))
	}
	return profile, nil
}
