// SPDX-License-Identifier: Apache-2.0

package site

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	readyTimeout  = 2 * time.Minute
	probeInterval = 5 * time.Millisecond
)

// StartProgram starts one of the webhooks, or the proxy, and returns when it is ready. took is the time from its start.
func (s *Site) StartProgram(ctx context.Context, program string) (took time.Duration, err error) {
	ops, err := s.freeAddress(ctx)
	if err != nil {
		return 0, err
	}
	args, err := s.arguments(ctx, program)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	process, err := proc.Start(ctx, s.runDir(), proc.Spec{
		Name: program, Path: filepath.Join(s.cfg.Programs, program), Args: append(args, "--ops-listen="+ops), EndWithStarter: true,
	})
	if err != nil {
		return 0, err
	}
	s.addresses[program+" ops"] = ops
	err = Await(ctx, readyTimeout, probeInterval, program+" to be ready", func() (bool, error) {
		if !process.Alive() {
			log, _ := os.ReadFile(s.Log(program)) // what there is of it
			return false, fmt.Errorf("%s ended:\n%s", program, log)
		}
		return ready(ctx, ops), nil
	})
	return time.Since(began), err
}

func (s *Site) arguments(ctx context.Context, program string) ([]string, error) {
	if program == Proxy {
		return s.proxyArguments(ctx)
	}
	config := map[string]string{Authn: "authn.yaml", Authz: "authz.yaml", Admission: "admission.yaml"}[program]
	if config == "" {
		return nil, fmt.Errorf("%s is no program of a site", program)
	}
	args := []string{"--config=" + s.Path(config)}
	if program == Admission {
		args = append(args, "--kubeconfig="+s.Path("admission.kubeconfig"))
	}
	return args, nil
}

// proxyArguments writes the proxy's file. Its certificate is that of another webhook on this address.
func (s *Site) proxyArguments(ctx context.Context) ([]string, error) {
	address, err := s.freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	s.addresses[Proxy] = address
	content, err := yaml.Marshal(map[string]any{
		"listen": address, "policyFile": s.Path("policy.yaml"),
		"tls":    map[string]any{"certFile": s.Path("authn.crt"), "keyFile": s.Path("authn.key")},
		"server": map[string]any{"url": s.Server(), "caFile": s.plane.CAFile()},
	})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.Path("proxy.yaml"), content, 0o600); err != nil {
		return nil, fmt.Errorf("configure %s: %w", Proxy, err)
	}
	return []string{"--config=" + s.Path("proxy.yaml")}, nil
}

func (s *Site) freeAddress(ctx context.Context) (string, error) {
	port, err := kube.FreePort(ctx)
	return net.JoinHostPort(loopback, strconv.Itoa(port)), err
}

// StopProgram ends a program and returns when it is gone.
func (s *Site) StopProgram(ctx context.Context, program string) error {
	process, err := proc.Load(s.runDir(), program)
	if err != nil {
		return err
	}
	return process.Stop(ctx, killWait)
}

// PID is the process of a program.
func (s *Site) PID(program string) (int, error) {
	process, err := proc.Load(s.runDir(), program)
	if err != nil {
		return 0, err
	}
	return process.PID(), nil
}

// Await asks done every so often until it says yes.
func Await(ctx context.Context, limit, every time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		ok, err := done()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		}
	}
}

func run(ctx context.Context, dir, name string, args ...string) error {
	command := exec.CommandContext(ctx, name, args...) //nolint:gosec // a program of this repository
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
