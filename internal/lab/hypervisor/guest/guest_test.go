// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/guest"
)

func TestMemoryInfo(t *testing.T) {
	t.Parallel()
	const own = "MemTotal:       24000000 kB\nMemFree:         1000000 kB\nMemAvailable:   20000000 kB\nSwapTotal:       5 kB\nHugePages_Total:       3\nVmallocTotal:   34359738367 kB\n"
	assert.Equal(t, "MemTotal:        2097152 kB\nMemFree:         1000000 kB\nMemAvailable:    2097152 kB\nSwapTotal:             0 kB\nHugePages_Total:       3\nVmallocTotal:   34359738367 kB\n",
		guest.MemoryInfo(own, 2048))
	assert.Contains(t, guest.MemoryInfo(own, 256<<10), "MemTotal:       268435456 kB\nMemFree:         1000000 kB\n")
}

func TestProcessors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		online     string
		count      int
		all, there string
	}{
		"fewer than there are": {online: "0-7\n", count: 2, all: "0,1", there: "0,1"},
		"more than there are":  {online: "0-1\n", count: 5, all: "0,1,2,3,4", there: "0,1"},
		"with gaps":            {online: "0,2-3,8", count: 6, all: "0,2,3,8,9,10", there: "0,2,3,8"},
		"one":                  {online: "0", count: 1, all: "0", there: "0"},
	} {
		all, there := guest.Processors(tc.online, tc.count)
		assert.Equal(t, tc.all, all, name)
		assert.Equal(t, tc.there, there, name)
	}
}

func TestParseCall(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want guest.Call
	}{
		"enable and start":          {args: []string{"enable", "--now", "a", "b"}, want: guest.Call{Verb: "enable", Units: []string{"a", "b"}, Now: true}},
		"options before the verb":   {args: []string{"-q", "--no-pager", "is-active", "a"}, want: guest.Call{Verb: "is-active", Units: []string{"a"}, Quiet: true}},
		"properties":                {args: []string{"show", "-p", "A,B", "--property=C", "--value", "a"}, want: guest.Call{Verb: "show", Units: []string{"a"}, Properties: []string{"A", "B", "C"}, Value: true}},
		"a value that is no unit":   {args: []string{"list-units", "--type", "service", "-n", "5"}, want: guest.Call{Verb: "list-units"}},
		"not waiting":               {args: []string{"--no-block", "restart", "a"}, want: guest.Call{Verb: "restart", Units: []string{"a"}, NoBlock: true}},
		"nothing":                   {args: nil, want: guest.Call{}},
		"an option without a value": {args: []string{"show", "a", "-p"}, want: guest.Call{Verb: "show", Units: []string{"a"}, Properties: []string{""}}},
	} {
		assert.Equal(t, tc.want, guest.ParseCall(tc.args...), name)
	}
}

func TestSystemctlOutsideAMachine(t *testing.T) {
	t.Parallel()
	var out, problems bytes.Buffer
	assert.Equal(t, 1, guest.Systemctl(t.Context(), []string{"status"}, &out, &problems))
	assert.Empty(t, out.String())
	assert.Contains(t, problems.String(), "reach the machine's init")
}

func TestInitNeedsAConfiguration(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, guest.Init(t.Context(), "/nonexistent"), "read machine configuration")
}
