// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/kube"
)

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cfg  kube.Config
		want string
	}{
		"no directory":           {kube.Config{BinDir: "/bin"}, "must be given"},
		"bad advertise address":  {kube.Config{Dir: "/x", BinDir: "/bin", Advertise: "here"}, "advertise address"},
		"bad service CIDR":       {kube.Config{Dir: "/x", BinDir: "/bin", ServiceCIDR: "10.0.0.0"}, "service CIDR"},
		"no ports for namespace": {kube.Config{Dir: "/x", BinDir: "/bin", NetNS: "/run/netns/x"}, "cannot be chosen"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := kube.Start(t.Context(), tc.cfg)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestOpenNothing(t *testing.T) {
	t.Parallel()
	_, err := kube.Open(t.TempDir(), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}
