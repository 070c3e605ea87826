// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package jupyter_test runs the notebook example: a Jupyter server on the virtual node, with all that a JupyterHub gives
// it, on a node whose GPU a device plugin advertises, used through the origin's API server only.
package jupyter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/examples/jupyter"
	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	labName         = "jupyter"
	node            = "caas-virtual"
	remoteNamespace = "notebooks"
	// gpuNode has a GPU, plainNode none.
	gpuNode, plainNode = "caas-1", "caas-2"

	accelerator = "accelerator"
	// userID is who the example's server runs as.
	userID = 1000
	// patience is for Python programs on a machine that is busy.
	patience = 10 * time.Minute
)

// world is a lab with a GPU and an offloading path.
type world struct {
	lab      *lab.Lab
	af, caas *kubernetes.Clientset
	gpus     *gpus
	// home is where the machine has the user's files.
	home string
}

//nolint:gochecknoglobals // TestMain has to know of it
var shared labtest.World[world]

// TestMain removes the lab at the end, also when it is interrupted.
func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // clients have nothing to say here
	os.Exit(shared.Run(m, func(ctx context.Context, interrupted bool) error {
		if w := shared.Made(); w != nil && w.gpus != nil {
			w.gpus.stop()
		}
		return labtest.Remove(labName)(ctx, interrupted)
	}))
}

func newWorld(ctx context.Context, logf func(string, ...any)) (*world, error) {
	// Tenants are the subject of others; without, the lab is up sooner.
	l, err := labtest.Up(ctx, lab.Config{Name: labName, Nodes: map[string]int{lab.CaaS: 2, lab.AF: 1}, NoTenancy: true}, logf)
	if err != nil {
		return nil, err
	}
	w := &world{lab: l, home: filepath.Join(l.Dir(), jupyter.Claim)}
	if w.af, w.caas, err = labtest.Clients(l); err != nil {
		return nil, err
	}
	if err := w.prepareNodes(ctx); err != nil {
		return nil, err
	}
	if w.gpus, err = startGPUs(ctx, l, gpuNode); err != nil {
		return nil, err
	}
	return w, w.startPath(ctx)
}

// prepareNodes marks the node with the GPU as sites do, and takes back what an earlier run of the test did.
func (w *world) prepareNodes(ctx context.Context) error {
	for name, patch := range map[string]string{
		gpuNode: fmt.Sprintf(`{"metadata":{"labels":{%q:%q}},"spec":{"unschedulable":null,"taints":[{"key":%q,"value":"present","effect":"NoSchedule"}]}}`,
			accelerator, jupyter.Model, gpuResource),
		plainNode: fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, accelerator),
	} {
		if _, err := w.caas.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// startPath starts the offloading path of a site that has the example's policy and claim.
func (w *world) startPath(ctx context.Context) error {
	bin, err := labtest.Bin()
	if err != nil {
		return err
	}
	path, err := offload.New(ctx, offload.Config{Lab: w.lab, BinDir: bin, Node: node, RemoteNamespace: remoteNamespace})
	if err != nil {
		return err
	}
	var policy map[string]any
	if err := yaml.Unmarshal([]byte(jupyter.Policy()), &policy); err != nil {
		return err
	}
	if err := errors.Join(path.StopAll(ctx), labtest.Settle(path, policy), w.makeHome(ctx)); err != nil {
		return err
	}
	if err := path.StartAll(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return path.AwaitReady(ctx)
}

// makeHome makes the volume with the user's files and the example's claim of it.
func (w *world) makeHome(ctx context.Context) error {
	if err := errors.Join(os.MkdirAll(w.home, 0o755), os.Chown(w.home, userID, userID)); err != nil {
		return err
	}
	var claim corev1.PersistentVolumeClaim
	if err := yaml.UnmarshalStrict([]byte(jupyter.ClaimManifest()), &claim); err != nil {
		return err
	}
	claim.Namespace = remoteNamespace
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: claim.Spec.VolumeName},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: claim.Spec.Resources.Requests, AccessModes: claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			ClaimRef:                      &corev1.ObjectReference{Namespace: claim.Namespace, Name: claim.Name},
			// The nodes of the lab have the machine's files.
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: w.home}},
		},
	}
	_, err := w.caas.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if offload.IgnoreExisting(err) != nil {
		return err
	}
	_, err = w.caas.CoreV1().PersistentVolumeClaims(claim.Namespace).Create(ctx, &claim, metav1.CreateOptions{})
	return offload.IgnoreExisting(err)
}

// command is kubectl against the remote cluster, in the example's namespace and directory.
func (w *world) command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cluster, err := w.lab.Cluster(lab.AF)
	require.NoError(t, err)
	common := []string{"--kubeconfig=" + cluster.Kubeconfig(), "--namespace=" + jupyter.Namespace}
	command := exec.CommandContext(ctx, w.lab.Kubectl(), append(common, args...)...)
	command.Dir = "../../../examples/jupyter"
	return command
}

// kubectl runs it and returns what it prints.
func (w *world) kubectl(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	command := w.command(ctx, t, args...)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	require.NoError(t, command.Run(), "kubectl %v: %s", args, &problems)
	return out.String()
}

func eventually(ctx context.Context, t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	labtest.Eventually(ctx, t, patience, what, done)
}
