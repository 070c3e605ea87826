// SPDX-License-Identifier: Apache-2.0

package site

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/manifest"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

// Controller is the name of the OSNode controller's program, process and ServiceAccount.
const Controller = "osnode-controller"

// Namespace is the platform's own.
const Namespace = "caas-system"

const (
	tokenLife    = 24 * time.Hour
	stopTimeout  = 20 * time.Second
	readyTimeout = time.Minute
	readyProbe   = 100 * time.Millisecond
)

// Config describes a site.
type Config struct {
	// Lab is a lab with OpenStack.
	Lab *lab.Lab
	// BinDir holds osnode-controller, and kubectl-openstack, by which users log in.
	BinDir string
	// Manifests is the directory deploy of the source tree.
	Manifests string
	// Projects get a namespace; CMS and QST when empty.
	Projects []string
	// Provider changes the controller's configuration of the cloud, Settings all of it, when not nil.
	Provider func(provider map[string]any)
	Settings func(settings map[string]any)
}

// Site is a site whose files are written and whose objects are in the cluster.
type Site struct {
	Config
	// Cloud is the lab's OpenStack.
	Cloud *openstack.Site

	dir string
}

// New applies the manifests of deploy/osnode, makes the projects' namespaces, and writes the controller's configuration.
// Nothing runs yet. What is there already is brought up to date.
func New(ctx context.Context, config Config) (*Site, error) {
	if len(config.Projects) == 0 {
		config.Projects = []string{openstack.CMS, openstack.QST}
	}
	for _, program := range []string{Controller, loginProgram} {
		if _, err := os.Stat(filepath.Join(config.BinDir, program)); err != nil {
			return nil, fmt.Errorf("site: program %s: %w (run make build)", program, err)
		}
	}
	cloud, err := config.Lab.OpenStack()
	if err != nil {
		return nil, fmt.Errorf("site: %w", err)
	}
	s := &Site{Config: config, Cloud: cloud, dir: filepath.Join(config.Lab.Dir(), "site")}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("site: %w", err)
	}
	for _, step := range []func(context.Context) error{
		s.applyManifests, s.letNodesProxy, s.addTenants, s.awaitAdmission, s.writeKubeconfig, s.writeSettings,
	} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("site: %w", err)
		}
	}
	return s, nil
}

func (s *Site) file(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Site) cluster() (*lab.Cluster, error) { return s.Lab.Cluster(lab.CaaS) }

func (s *Site) client() (*kubernetes.Clientset, error) {
	cluster, err := s.cluster()
	if err != nil {
		return nil, err
	}
	config, err := cluster.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func (s *Site) applyManifests(ctx context.Context) error {
	cluster, err := s.cluster()
	if err != nil {
		return err
	}
	config, err := cluster.RESTConfig()
	if err != nil {
		return err
	}
	files := []string{"crds/*.yaml", "rbac.yaml", "bootstrap-rbac.yaml", "tenant-role.yaml", "policies.yaml"}
	if !s.Lab.Tenancy() {
		files = append(files, "owner-labels.yaml") // else the webhook writes them
	}
	return manifest.Apply(ctx, config, os.DirFS(filepath.Join(s.Manifests, "osnode")), files...)
}

func (s *Site) addTenants(ctx context.Context) error {
	for _, project := range s.Projects {
		if err := s.AddTenant(ctx, project); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfig makes the controller the ServiceAccount that it is at a real site, with no more rights.
func (s *Site) writeKubeconfig(ctx context.Context) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	seconds := int64(tokenLife.Seconds())
	token, err := client.CoreV1().ServiceAccounts(Namespace).CreateToken(ctx, Controller,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("log in as ServiceAccount %s: %w", Controller, err)
	}
	cluster, err := s.cluster()
	if err != nil {
		return err
	}
	plane, err := cluster.ControlPlane()
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[lab.CaaS] = &clientcmdapi.Cluster{Server: cluster.InsideServer(), CertificateAuthority: plane.CAFile()}
	config.AuthInfos[Controller] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts[lab.CaaS] = &clientcmdapi.Context{Cluster: lab.CaaS, AuthInfo: Controller}
	config.CurrentContext = lab.CaaS
	return wrap(clientcmd.WriteToFile(*config, s.file("kubeconfig")), "write kubeconfig")
}

// OpsAddress is where the controller's metrics and health are, inside the LAN.
func (s *Site) OpsAddress() string { return "10.88.0.1:3400" }

// Start starts the controller unless it runs.
func (s *Site) Start(ctx context.Context) error {
	if running, err := s.Lab.Process(Controller); err == nil && running.Alive() {
		return nil
	}
	_, err := s.Lab.Start(ctx, proc.Spec{Name: Controller, Path: filepath.Join(s.BinDir, Controller), Args: []string{
		"--config", s.file("controller.yaml"), "--kubeconfig", s.file("kubeconfig"), "--namespace", Namespace,
		"--ops-listen", s.OpsAddress(),
	}})
	return err
}

// Kill ends the controller as a crash does.
func (s *Site) Kill() error {
	running, err := s.Lab.Process(Controller)
	if err != nil {
		return fmt.Errorf("kill %s: %w", Controller, err)
	}
	return running.Kill()
}

// Stop ends the controller in good order. It is no error that it does not run.
func (s *Site) Stop(ctx context.Context) error {
	running, err := s.Lab.Process(Controller)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", Controller, err)
	}
	return running.Stop(ctx, stopTimeout)
}
