// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/cloudveneto/caas/internal/lab"
)

func TestPodSubnet(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ server, want string }{
		"first of CMS":       {server: "10.88.16.10", want: "10.201.50.0/24"},
		"last of CMS":        {server: "10.88.16.109", want: "10.201.149.0/24"},
		"first of QST":       {server: "10.88.32.10", want: "10.201.150.0/24"},
		"last of QST":        {server: "10.88.32.109", want: "10.201.249.0/24"},
		"the gateway":        {server: "10.88.16.1"},
		"beyond the servers": {server: "10.88.16.110"},
		"a node of the lab":  {server: "10.88.0.101"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			subnet, ok := lab.PodSubnet(netip.MustParseAddr(tc.server))
			assert.Equal(t, tc.want != "", ok)
			if ok {
				assert.Equal(t, tc.want, subnet.String())
			}
		})
	}
}
