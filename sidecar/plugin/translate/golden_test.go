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
	site := &translate.Policy{}
	content, err := os.ReadFile("testdata/site.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalStrict(content, site))
	require.NoError(t, site.Validate("site"))
	policy := &translate.Policy{
		Volumes: []translate.VolumeRule{{
			Match:  translate.VolumeMatch{Kind: "persistentVolumeClaim", Name: "data"},
			Target: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "ours"}},
		}},
		DNS: map[string]translate.ClusterDNS{"*": {Nameservers: []string{"10.96.0.10"}}},
	}
	for _, test := range []struct {
		name, golden string
		policy       *translate.Policy
	}{
		{"create-full", "create-full", policy},
		{"create-minimal", "create-minimal", policy},
		{"create-full", "create-full-site", site},
		{"create-claims", "create-claims-site", site},
	} {
		t.Run(test.golden, func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(filepath.Join("../../../internal/interlink/testdata/plugin", test.name+".http"))
			require.NoError(t, err)
			_, body, _ := bytes.Cut(content, []byte("\n\n"))
			var wire interlink.PluginPod
			require.NoError(t, json.Unmarshal(body, &wire))
			got, err := yaml.Marshal(translated(t, translate.FromWire("alice", &wire), test.policy))
			require.NoError(t, err)
			golden := filepath.Join("testdata", test.golden+".golden.yaml")
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
