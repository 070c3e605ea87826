// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden translates the create requests that API servers send, and compares
// with what was reviewed before.
func TestGolden(t *testing.T) {
	t.Parallel()
	policy := &translate.Policy{
		Volumes: []translate.VolumeRule{{
			Match:  translate.VolumeMatch{Kind: "persistentVolumeClaim", Name: "data"},
			Target: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "ours"}},
		}},
		DNS: map[string]translate.ClusterDNS{"*": {Nameservers: []string{"10.96.0.10"}}},
	}
	for _, name := range []string{"create-full", "create-minimal"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(filepath.Join("../../../internal/interlink/testdata/plugin", name+".http"))
			require.NoError(t, err)
			_, body, _ := bytes.Cut(content, []byte("\n\n"))
			var wire interlink.PluginPod
			require.NoError(t, json.Unmarshal(body, &wire))
			got, err := yaml.Marshal(translated(t, translate.FromWire("alice", &wire), policy))
			require.NoError(t, err)
			golden := filepath.Join("testdata", name+".golden.yaml")
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o750))
				require.NoError(t, os.WriteFile(golden, got, 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Empty(t, cmp.Diff(string(want), string(got)))
		})
	}
}
