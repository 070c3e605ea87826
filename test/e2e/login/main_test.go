// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package login_test uses kubectl-openstack as a user does who has read the guide: with the program,
// kubectl, and a real Keystone, before a cluster with its webhooks and its proxy.
package login_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	defaultName = "login"
	patience    = 2 * time.Minute
)

// labName is the lab's; another one may be wanted on a machine with several.
func labName() string {
	if name := os.Getenv("CAAS_LAB"); name != "" {
		return name
	}
	return defaultName
}

// world is a lab whose Keystone knows the users of the guide.
type world struct {
	lab      *lab.Lab
	keystone *openstack.Site
	admin    *openstack.Session
	trustee  openstack.User
	program  string
}

//nolint:gochecknoglobals // one lab serves all tests of the package
var shared labtest.World[world]

// TestMain removes the lab at the end, also when it is interrupted.
func TestMain(m *testing.M) { os.Exit(shared.Run(m, labtest.Remove(labName()))) }

// theWorld returns the lab, made by the first caller.
func theWorld(t *testing.T) *world {
	t.Helper()
	return shared.Get(t, newWorld)
}

func newWorld(ctx context.Context, logf func(string, ...any)) (*world, error) {
	bin, err := labtest.Bin()
	if err != nil {
		return nil, err
	}
	w := &world{program: filepath.Join(bin, "kubectl-openstack")}
	w.lab, err = labtest.Up(ctx, lab.Config{Name: labName(), Nodes: map[string]int{lab.CaaS: 0, lab.AF: 0}}, logf)
	if err != nil {
		return nil, err
	}
	if w.keystone, err = w.lab.Keystone(); err != nil {
		return nil, err
	}
	if w.trustee, err = w.keystone.User(openstack.ServiceUser); err != nil {
		return nil, err
	}
	w.admin, err = w.keystone.Admin(ctx)
	return w, err
}

// user is somebody at a machine of his own.
type user struct {
	*world

	name, password, home string
	environment          []string
}

// user gives a user of Keystone a home with what the site hands out: the program's settings.
func (w *world) user(t *testing.T, name string) *user {
	t.Helper()
	password, err := w.keystone.Password(name)
	require.NoError(t, err)
	home := t.TempDir()
	config := filepath.Join(home, ".config", "kubectl-openstack")
	require.NoError(t, os.MkdirAll(config, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(config, "ca.crt"), w.authority(t), 0o600))
	settings := fmt.Sprintf("server: %s\ncaFile: ca.crt\nauthURL: %s\nauthCAFile: %s\ntrustee: {id: %s, name: %s}\n",
		w.lab.Proxy(), w.lab.KeystoneURL(), w.lab.KeystoneCA(), w.trustee.ID, openstack.ServiceUser)
	require.NoError(t, os.WriteFile(filepath.Join(config, "config.yaml"), []byte(settings), 0o600))
	return &user{
		world: w, name: name, password: password, home: home,
		environment: []string{
			"HOME=" + home, "PATH=" + filepath.Dir(w.program) + ":" + filepath.Dir(w.lab.Kubectl()) + ":" + os.Getenv("PATH"), "TZ=UTC",
		},
	}
}

// authority is who vouches for the cluster, and for the proxy before it.
func (w *world) authority(t *testing.T) []byte {
	t.Helper()
	cluster, err := w.lab.Cluster(lab.CaaS)
	require.NoError(t, err)
	config, err := cluster.RESTConfig()
	require.NoError(t, err)
	if len(config.CAData) > 0 {
		return config.CAData
	}
	authority, err := os.ReadFile(config.CAFile)
	require.NoError(t, err)
	return authority
}

// result is what a command printed.
type result struct {
	out, err string
	code     int
}

// run runs a command as the user, with standard input.
func (u *user) run(t *testing.T, stdin, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Env, command.Dir, command.Stdin = u.environment, u.home, bytes.NewBufferString(stdin)
	var out, complaints bytes.Buffer
	command.Stdout, command.Stderr = &out, &complaints
	_ = command.Run()
	return result{out.String(), complaints.String(), command.ProcessState.ExitCode()}
}

// login runs the program with the password on standard input.
func (u *user) login(t *testing.T, args ...string) result {
	t.Helper()
	return u.run(t, u.password+"\n", u.program, append([]string{"-user=" + u.name, "-password-stdin"}, args...)...)
}

// kubectl runs kubectl, which has to work.
func (u *user) kubectl(t *testing.T, args ...string) result {
	t.Helper()
	got := u.run(t, "", u.lab.Kubectl(), args...)
	require.Zero(t, got.code, "kubectl %v: %s%s", args, got.out, got.err)
	return got
}
