// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/tools"
)

// lifePrograms may take minutes to build, the first time on a machine.
const lifePrograms = 30 * time.Minute

// TestTenancyOrdinaryLife does what people do with a cluster all day, by kubectl and Helm, as Alice, through the proxy. She
// says nothing of owners, and all of it has to work as it does in a cluster of her own. Bob and what is his are there all
// the while.
func TestTenancyOrdinaryLife(t *testing.T) {
	w := theWorld(t)
	check := w.untouched(t, bobs()...)
	helm := w.builds(t, "helm", tools.Helm)
	w.startMetrics(t)
	t.Run("all", func(t *testing.T) {
		for _, one := range []struct {
			name string
			run  func(*testing.T, person)
		}{
			// What waits longest begins first.
			{"a HorizontalPodAutoscaler", autoscales},
			{"a CronJob", schedules},
			{"a chart", func(t *testing.T, me person) { charts(t, me, helm) }},
			{"a Deployment and its rollouts", deploys},
			{"a StatefulSet", keepsState},
			{"a PersistentVolumeClaim", keepsData},
			{"a Job", runsJobs},
			{"a DaemonSet", daemons},
			{"a Service", serves},
			{"an Ingress", routes},
			{"apply on the server's side", appliesOnServer},
			{"apply and prune", prunes},
			{"into a pod", reachesInto},
			{"top", tops},
		} {
			t.Run(one.name, func(t *testing.T) {
				t.Parallel()
				one.run(t, w.alice.proxied())
			})
		}
	})
	check()
}

// builds returns one of the programs that people use with a cluster.
func (w *world) builds(t *testing.T, name string, build func(context.Context, gobuild.Config) (string, error)) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lifePrograms)
	defer cancel()
	began := time.Now()
	path, err := build(ctx, gobuild.Config{Source: w.source})
	require.NoError(t, err)
	t.Logf("%s is built (%s)", name, time.Since(began).Round(time.Millisecond))
	return path
}

// lifeFile makes one of the manifests in testdata/life, with other words for those in capitals.
func lifeFile(t *testing.T, file string, replace ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "life", file))
	require.NoError(t, err)
	return writeFile(t, strings.NewReplacer(replace...).Replace(string(content)))
}

// has applies a manifest, of which nothing is left at the end, and returns its path.
func (p person) has(t *testing.T, file string, replace ...string) string {
	t.Helper()
	path := lifeFile(t, file, replace...)
	p.removesAtLast(t, "-f", path)
	p.kubectl(t, "apply", "-f", path)
	return path
}

// removesAtLast has kubectl delete something when the test is over, however that goes.
func (p person) removesAtLast(t *testing.T, args ...string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		args := append([]string{"delete", "--ignore-not-found", "--grace-period=1"}, args...)
		out, err := p.command(ctx, t, args...).CombinedOutput()
		assert.NoError(t, err, "kubectl %v: %s", args, out)
	})
}

// says waits until kubectl prints exactly this.
func (p person) says(t *testing.T, want string, args ...string) {
	t.Helper()
	var out string
	assert.Eventually(t, func() bool {
		var err error
		out, err = p.tries(t, args...)
		return err == nil && strings.TrimSpace(out) == want
	}, patience, 4*interval, "kubectl %v", args)
	require.Equal(t, want, strings.TrimSpace(out), "kubectl %v", args)
}

// lists is what kubectl prints, by words.
func (p person) lists(t *testing.T, args ...string) []string {
	t.Helper()
	return strings.Fields(p.kubectl(t, args...))
}

// page is what an address answers to a pod of the person's. The rules of the nodes follow a Service a moment later.
func (p person) page(t *testing.T, pod, address string) string {
	t.Helper()
	var out string
	eventually(t, pod+" reaches "+address, func() bool {
		var err error
		out, err = p.tries(t, "exec", pod, "--", "timeout", "3", "wget", "-q", "-O", "-", "http://"+address)
		return err == nil
	})
	return out
}

// administers runs kubectl with all rights.
func (w *world) administers(ctx context.Context, args ...string) (string, error) {
	cluster, err := w.lab.Cluster(lab.CaaS)
	if err != nil {
		return "", err
	}
	args = append([]string{"--net=" + w.lab.NetNS(), w.lab.Kubectl(), "--kubeconfig=" + cluster.InsideKubeconfig()}, args...)
	out, err := exec.CommandContext(ctx, "nsenter", args...).CombinedOutput()
	return string(out), err
}

// given is what an administrator makes of a manifest, until the test is over.
func (w *world) given(t *testing.T, file string, replace ...string) {
	t.Helper()
	path := lifeFile(t, file, replace...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		out, err := w.administers(ctx, "delete", "--ignore-not-found", "-f", path)
		assert.NoError(t, err, "delete %s: %s", file, out)
	})
	out, err := w.administers(t.Context(), "apply", "-f", path)
	require.NoError(t, err, "apply %s: %s", file, out)
}
