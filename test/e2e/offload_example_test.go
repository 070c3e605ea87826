// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/examples/montecarlo"
	"github.com/cloudveneto/caas/internal/lab/demo"
)

// TestOffloadExample runs what make demo runs, and looks at what it prints.
func TestOffloadExample(t *testing.T) {
	w := theWorld(t)
	var out bytes.Buffer
	err := demo.Run(t.Context(), demo.Config{Origin: w.af, CaaS: w.caas, Node: w.node, RemoteNamespace: w.remoteNamespace, Out: &out})
	t.Log(out.String())
	require.NoError(t, err)
	assert.Contains(t, out.String(), "20 of 20 pods completed, each on a CaaS node.")
	assert.Regexp(t, `photons through without a collision\s+0\.05\d+\s+0\.05\d+ ± 0\.000\d+`, out.String())
	require.NoError(t, w.af.CoreV1().Namespaces().Delete(t.Context(), montecarlo.Namespace, metav1.DeleteOptions{}))
	w.awaitNothingRemote(t)
}
