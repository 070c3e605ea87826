// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	readyTimeout = 2 * time.Minute
	stopGrace    = 20 * time.Second
	// scrapeTimeout is longer than the controller needs for its answer on a busy machine.
	scrapeTimeout = 30 * time.Second
)

type object = map[string]any

// settings is the controller's configuration: the cloud that it works with, and timers that
// are not the default.
type settings struct {
	provider object
	timers   map[string]string
}

// controller is the real program.
type controller struct {
	run, config, kubeconfig, bin, ops string

	client *http.Client

	mu      sync.Mutex // guards what follows
	process *proc.Process
	crashes int
}

// startController starts the controller and waits until it is ready.
func (w *world) startController(ctx context.Context, s settings) (*controller, error) {
	kubeconfig, err := w.controllerKubeconfig(ctx)
	if err != nil {
		return nil, err
	}
	encoded, err := yaml.Marshal(object{
		"cluster": clusterName, "providers": []object{s.provider}, "timers": s.timers,
		"bootstrap": object{"server": w.plane.Server(), "caFile": w.plane.CAFile(), "clusterDNS": []string{"10.96.0.10"}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	ops, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	c := &controller{
		run: filepath.Join(w.dir, "run"), config: filepath.Join(w.dir, "controller.yaml"), kubeconfig: kubeconfig,
		bin: filepath.Join(w.options.binDir, controllerName), ops: ops, client: &http.Client{Timeout: scrapeTimeout},
	}
	if err := os.WriteFile(c.config, encoded, 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	return c, c.awaitReady(ctx)
}

// freeAddress is one on which nobody listens.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

func (c *controller) start(ctx context.Context) error {
	process, err := proc.Start(ctx, c.run, proc.Spec{
		Name: controllerName, Path: c.bin, EndWithStarter: true, LogFile: filepath.Join(c.run, controllerName+".log"),
		Args: []string{
			"--config", c.config, "--kubeconfig", c.kubeconfig, "--namespace", systemNamespace,
			"--ops-listen", c.ops, "--log-format", "json",
		},
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = process
	return nil
}

func (c *controller) awaitReady(ctx context.Context) error {
	return await(ctx, readyTimeout, settleTime, controllerName+" to be ready", func() (bool, error) {
		if !c.current().Alive() {
			return false, fmt.Errorf("it ended; see %s", c.current().Spec().LogFile)
		}
		_, err := c.get(ctx, "/readyz")
		return err == nil, nil
	})
}

func (c *controller) current() *proc.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

// crash kills the controller and starts it again.
func (c *controller) crash(ctx context.Context) error {
	c.mu.Lock()
	c.crashes++
	process := c.process
	c.mu.Unlock()
	if err := process.Kill(); err != nil {
		return err
	}
	return c.start(ctx)
}

// stop ends the controller in good order.
func (c *controller) stop(ctx context.Context) error {
	c.client.CloseIdleConnections()
	return c.current().Stop(context.WithoutCancel(ctx), stopGrace)
}

func (c *controller) get(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.ops+path, http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := c.client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, answer.Status)
	}
	return string(body), err
}

func (c *controller) metrics(ctx context.Context) (bench.Exposition, error) {
	text, err := c.get(ctx, "/metrics")
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", controllerName, err)
	}
	return bench.ParseExposition(text)
}

// peak is the largest resident set of the present process so far, in bytes.
func (c *controller) peak() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.current().PID()))
	if err != nil {
		return 0, fmt.Errorf("memory of %s: %w", controllerName, err)
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kib); n == 1 {
			return kib * (1 << 10), nil
		}
	}
	return 0, errors.New("memory of " + controllerName + ": unexpected form of its status file")
}
