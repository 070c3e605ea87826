// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	clusterName    = "drills"
	platform       = "caas-system"
	mainController = "osnode-controller"

	// Those of the controller's timers that drills count on. The first must be longer than a request for a machine may
	// take on a busy machine, which is what it promises.
	settle      = 12 * time.Second
	createTimer = 40 * time.Second
	joinTimer   = 15 * time.Second
	tokenMargin = 2 * time.Second
	orphanAge   = 3 * time.Second
	collect     = 3 * time.Second
)

// controls run controllers, each a process of the built program with the deployed ServiceAccount's token.
type controls struct {
	*world

	program string

	mu      sync.Mutex
	running map[string]*proc.Process
}

func (c *controls) file(name string) string { return filepath.Join(c.dir, name) }

// prepare writes the kubeconfig file and the configuration.
func (c *controls) prepare(ctx context.Context) error {
	c.running = map[string]*proc.Process{}
	clients, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return err
	}
	token, err := clients.CoreV1().ServiceAccounts(platform).CreateToken(ctx, "osnode-controller",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(7200))}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("log in as the controller: %w", err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[clusterName] = &clientcmdapi.Cluster{Server: c.plane.Server(), CertificateAuthority: c.plane.CAFile()}
	config.AuthInfos[clusterName] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts[clusterName] = &clientcmdapi.Context{Cluster: clusterName, AuthInfo: clusterName}
	config.CurrentContext = clusterName
	if err := clientcmd.WriteToFile(*config, c.file("kubeconfig")); err != nil {
		return err
	}
	settings, err := yaml.Marshal(c.settings())
	if err != nil {
		return err
	}
	return os.WriteFile(c.file("controller.yaml"), settings, 0o600)
}

type object = map[string]any

// settings are the controller's configuration: short timers, and a provider for each drill.
func (c *controls) settings() object {
	var providers []object
	for id, door := range c.doors {
		providers = append(providers, object{
			"id": id, "displayName": "Drill " + id, "authURL": door.proxy.AuthURL(),
			"identity": object{
				"userName": serviceUser(id), "passwordFile": c.cloud.PasswordFile(serviceUser(id)), "project": projectName(id),
			},
			"regions": []string{c.cloud.Region()},
			"defaults": object{
				"region": c.cloud.Region(), "availabilityZone": "nova", "image": openstack.ImageAlmaLinux, "securityGroups": []string{"K8S"},
			},
			"networks": []string{"{{.ProjectName}}-lan"}, "configDrive": true,
			"cache":   object{"references": "500ms", "quota": "200ms", "trusts": "500ms"},
			"timeout": "60s", // a slow answer is better than a lost one, which some drills make themselves
		})
	}
	return object{
		"cluster": clusterName, "defaultProvider": calm, "providers": providers,
		"bootstrap": object{
			"server": c.plane.Server(), "caFile": c.plane.CAFile(), "clusterDNS": []string{"10.96.0.10"}, "extraUserData": sitePart(),
		},
		"timers": map[string]string{
			"create": createTimer.String(), "join": joinTimer.String(), "tokenMargin": tokenMargin.String(), "settle": settle.String(),
			"pollCreating": "1s", "pollSlow": "1s", "pollRunning": "2s", "ageCreating": "800ms", "ageRunning": "1500ms",
			"notReadyGrace": "3s", "drain": "5s", "drainForced": "2s", "drainUnready": "5s", "detach": "2s", "deleteAgain": "4s",
			"retryFirst": "100ms", "retryMost": "1s", "quotaFirst": "500ms", "quotaMost": "2s", "hostFirst": "500ms", "hostMost": "1s",
			"recheck": "1s", "authorization": "500ms", "collect": collect.String(), "orphanAge": orphanAge.String(),
		},
	}
}

// sitePart is so long that there is room for most users' parts, but not for the longest that the API takes.
func sitePart() string {
	const size = 27 << 10
	noise := make([]byte, size*3/4)
	dice := rand.New(rand.NewPCG(1, 2)) // the same each time
	for i := range noise {
		noise[i] = byte(dice.UintN(256))
	}
	return "#!/bin/sh\n: " + base64.StdEncoding.EncodeToString(noise) + "\n"
}

// start starts a controller; args are more of its arguments.
func (c *controls) start(ctx context.Context, name string, args ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	process, err := proc.Start(ctx, c.file("controllers"), proc.Spec{
		Name: name, Path: c.program, EndWithStarter: true, Args: append([]string{
			"--config", c.file("controller.yaml"), "--kubeconfig", c.file("kubeconfig"), "--namespace", platform, "--ops-listen", "",
		}, args...),
	})
	if err == nil {
		c.running[name] = process
	}
	return err
}

// process is a controller that was started.
func (c *controls) process(name string) *proc.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[name]
}

// kill ends a controller as a crash does.
func (c *controls) kill(name string) error {
	if process := c.process(name); process != nil {
		return process.Kill()
	}
	return fs.ErrNotExist
}

// freeze stops a controller in its tracks, until thaw.
func (c *controls) freeze(name string) error { return tellProcess(c.process(name), syscall.SIGSTOP) }

func (c *controls) thaw(name string) error { return tellProcess(c.process(name), syscall.SIGCONT) }

func tellProcess(process *proc.Process, sig syscall.Signal) error {
	if process == nil || !process.Alive() {
		return fs.ErrNotExist
	}
	return syscall.Kill(process.PID(), sig)
}

func (c *controls) killAll() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, process := range c.running {
		errs = append(errs, process.Kill())
	}
	return errors.Join(errs...)
}

// logged are the lines of a controller's log that have a text in them.
func (c *controls) logged(name, text string) []string {
	content, err := os.ReadFile(filepath.Join(c.file("controllers"), name+".log"))
	if err != nil {
		return []string{err.Error()}
	}
	var lines []string
	for line := range strings.Lines(string(content)) {
		if strings.Contains(line, text) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
