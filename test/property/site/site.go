// SPDX-License-Identifier: Apache-2.0

package site

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/proc"
	"github.com/cloudveneto/caas/internal/mtconfig"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// The programs.
const (
	Authn     = "kube-mt-authn"
	Authz     = "kube-mt-authz"
	Admission = "kube-mt-admission"
	Proxy     = "kube-mt-proxy"
)

const (
	loopback = "127.0.0.1"
	killWait = 10 * time.Second
)

// Config describes a site. Dir, Programs and Users are required.
type Config struct {
	// Dir holds everything. It MUST be absolute; it is not removed.
	Dir string
	// Programs is the directory of the webhooks' programs.
	Programs string
	// Users are who has which token.
	Users map[string]tenant.User
	// Projects are those of namespaces, which are made. A namespace of the zero project is of none.
	Projects map[string]tenant.Project
	// ControllerManager runs kube-controller-manager.
	ControllerManager bool
	// Quarantine is that of kube-mt-admission; its own default when zero.
	Quarantine time.Duration
	// Authz are further keys of kube-mt-authz's file.
	Authz map[string]any
	// Late leaves kube-mt-authz to be started by StartProgram: until then tenants are denied everything.
	Late bool
}

// Site is a running site.
type Site struct {
	cfg       Config
	plane     *kube.ControlPlane
	admin     *rest.Config
	installed mtconfig.Site
	addresses map[string]string
	stop      context.CancelFunc
	serving   sync.WaitGroup
}

// Build builds programs of this repository into dir and returns it.
func Build(ctx context.Context, dir string, programs ...string) (string, error) {
	source, err := gobuild.FindSource("")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	for _, program := range programs {
		args = append(args, "./cmd/"+program)
	}
	return dir, run(ctx, source, "go", args...)
}

// Start starts a site and returns when the webhooks are asked. On an error nothing is left running.
func Start(ctx context.Context, cfg Config) (*Site, error) {
	if !filepath.IsAbs(cfg.Dir) || cfg.Programs == "" || len(cfg.Users) == 0 {
		return nil, errors.New("site: an absolute directory, programs and users are required")
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Site{cfg: cfg, stop: stop, addresses: map[string]string{}}
	if err := s.start(ctx, serving); err != nil {
		return nil, errors.Join(fmt.Errorf("start site: %w", err), s.Close())
	}
	return s, nil
}

func (s *Site) start(ctx, serving context.Context) error {
	binaries, err := kube.Build(ctx, gobuild.Config{})
	if err != nil {
		return fmt.Errorf("build Kubernetes: %w", err)
	}
	port, err := kube.FreePort(ctx)
	if err != nil {
		return err
	}
	plane := kube.Config{
		Name: "site", Dir: filepath.Join(s.cfg.Dir, "cluster"), BinDir: binaries, ControllerManager: s.cfg.ControllerManager,
		Ports: kube.Ports{APIServer: port}, EndWithStarter: true,
	}
	if err := kube.Prepare(plane); err != nil {
		return err
	}
	if err := s.install(ctx, plane); err != nil {
		return err
	}
	if err := s.answerReviews(serving); err != nil {
		return err
	}
	plane.APIServerArgs = s.installed.APIServerArgs()
	if s.plane, err = kube.Start(ctx, plane); err != nil {
		return err
	}
	if s.admin, err = s.plane.RESTConfig(); err != nil {
		return err
	}
	return s.furnish(ctx)
}

// install writes what webhooks and API server read, with addresses that are free here.
func (s *Site) install(ctx context.Context, plane kube.Config) error {
	pki := filepath.Join(plane.Dir, "pki")
	site := mtconfig.Site{
		Directory: filepath.Join(s.cfg.Dir, "mt"), Replicas: 1,
		APIServer: "https://" + net.JoinHostPort(loopback, strconv.Itoa(plane.Ports.APIServer)),
		ClusterCA: mtconfig.CA{CertFile: filepath.Join(pki, "ca.crt"), KeyFile: filepath.Join(pki, "ca.key")},
		Keystone:  &mtconfig.Keystone{AuthURL: "https://localhost/v3"}, // in its place is this process
		Authz:     s.cfg.Authz,
	}
	if s.cfg.Quarantine > 0 {
		site.Admission = map[string]any{"quarantine": s.cfg.Quarantine.String()}
	}
	var err error
	if s.installed, err = site.Complete(); err != nil {
		return err
	}
	if _, err := mtconfig.Install(s.installed, mtconfig.Options{}); err != nil {
		return err
	}
	return s.move(ctx)
}

// move gives the webhooks other addresses than those of deploy: several sites may run on one machine.
func (s *Site) move(ctx context.Context) error {
	var replacements []string
	for program, address := range map[string]string{Authn: "127.0.0.1:9641", Authz: "127.0.0.1:9643", Admission: "127.0.0.1:9445"} {
		port, err := kube.FreePort(ctx)
		if err != nil {
			return err
		}
		s.addresses[program] = net.JoinHostPort(loopback, strconv.Itoa(port))
		replacements = append(replacements, address, s.addresses[program])
	}
	replacer := strings.NewReplacer(replacements...)
	for _, pattern := range []string{"*.yaml", "*.kubeconfig", "manifests/*.yaml"} {
		files, err := filepath.Glob(s.Path(pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			content, err := os.ReadFile(filepath.Clean(file))
			if err != nil {
				return fmt.Errorf("move webhooks: %w", err)
			}
			if err := os.WriteFile(file, []byte(replacer.Replace(string(content))), 0o600); err != nil { //nolint:gosec // a file of the test's own
				return fmt.Errorf("move webhooks: %w", err)
			}
		}
	}
	return nil
}

// Path is a file of those that the webhooks read.
func (s *Site) Path(name string) string { return filepath.Join(s.installed.Directory, name) }

// Address is where a webhook listens: host:port.
func (s *Site) Address(program string) string { return s.addresses[program] }

// OpsAddress is where a program has its health and metrics.
func (s *Site) OpsAddress(program string) string { return s.addresses[program+" ops"] }

// Server is the API server's URL.
func (s *Site) Server() string { return s.plane.Server() }

// ControlPlane is the control plane itself: its logs and certificates.
func (s *Site) ControlPlane() *kube.ControlPlane { return s.plane }

// Admin is a copy of the administrator's client configuration, without limits.
func (s *Site) Admin() *rest.Config {
	config := rest.CopyConfig(s.admin)
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	return config
}

// As is the client configuration of who has a token, without limits.
func (s *Site) As(token string) *rest.Config {
	config := rest.AnonymousClientConfig(s.Admin())
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	config.BearerToken = token
	return config
}

// Close ends all processes.
func (s *Site) Close() error {
	var errs []error
	processes, err := proc.All(s.runDir())
	errs = append(errs, err)
	for _, process := range processes {
		errs = append(errs, process.Kill())
	}
	if s.plane != nil {
		errs = append(errs, s.plane.Kill())
	}
	s.stop()
	s.serving.Wait()
	return errors.Join(errs...)
}

func (s *Site) runDir() string { return filepath.Join(s.cfg.Dir, "run") }

// Log is the log of a program.
func (s *Site) Log(program string) string { return filepath.Join(s.runDir(), program+".log") }

// ready tells whether a program says that it is.
func ready(ctx context.Context, address string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", http.NoBody)
	if err != nil {
		return false
	}
	answer, err := (&http.Client{Timeout: time.Second}).Do(request)
	return err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
}
