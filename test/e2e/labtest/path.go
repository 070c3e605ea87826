// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package labtest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/offload"
)

// Clients are the administrators' clients of both clusters.
func Clients(l *lab.Lab) (af, caas *kubernetes.Clientset, err error) {
	for name, client := range map[string]**kubernetes.Clientset{lab.AF: &af, lab.CaaS: &caas} {
		cluster, err := l.Cluster(name)
		if err != nil {
			return nil, nil, err
		}
		config, err := cluster.RESTConfig()
		if err != nil {
			return nil, nil, err
		}
		if *client, err = kubernetes.NewForConfig(config); err != nil {
			return nil, nil, err
		}
	}
	return af, caas, nil
}

// Settle merges further settings into the configuration of a path's sidecar, which is not running yet.
func Settle(path *offload.Path, extra map[string]any) error {
	file := filepath.Join(path.Dir(), "sidecar.yaml")
	content, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return err
	}
	settings := map[string]any{}
	if err := yaml.Unmarshal(content, &settings); err != nil {
		return err
	}
	Merge(settings, extra)
	if content, err = yaml.Marshal(settings); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o600)
}

// Merge puts from into a document: maps are merged, anything else is replaced.
func Merge(into, from map[string]any) {
	for key, value := range from {
		below, isMap := value.(map[string]any)
		if known, both := into[key].(map[string]any); isMap && both {
			Merge(known, below)
			continue
		}
		into[key] = value
	}
}

// Eventually waits until done says true; the text beside it says how things stand.
func Eventually(ctx context.Context, t *testing.T, patience time.Duration, what string, done func() (bool, string)) {
	t.Helper()
	state := ""
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		finished, now := done()
		state = now
		return finished, nil
	})
	require.NoError(t, err, "%s; last seen: %s", what, state)
}
