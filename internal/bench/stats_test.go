// SPDX-License-Identifier: Apache-2.0

package bench_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/bench"
)

func TestReportReached(t *testing.T) {
	t.Parallel()
	target := 2.5
	for name, test := range map[string]struct {
		figure bench.Figure
		want   bool
	}{
		"lower, met":      {bench.Figure{Value: 2.5, Target: &target, Better: bench.Lower}, true},
		"lower, missed":   {bench.Figure{Value: 2.6, Target: &target, Better: bench.Lower}, false},
		"higher, met":     {bench.Figure{Value: 3, Target: &target, Better: bench.Higher}, true},
		"higher, missed":  {bench.Figure{Value: 2, Target: &target, Better: bench.Higher}, false},
		"without targets": {bench.Figure{Value: 9}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, test.figure.Reached())
		})
	}
}

func TestReportWritesOneObjectPerLine(t *testing.T) {
	t.Parallel()
	report := bench.Report{Progress: io.Discard}
	report.AddTarget("burst of 100, offloaded to direct", 1.75, "x", bench.Lower, 2.5)
	report.Add("log, direct", 312.4, "MB/s", bench.Higher)
	path := filepath.Join(t.TempDir(), "out", "latest.json")
	require.NoError(t, report.WriteJSON(path))

	content, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	require.Len(t, lines, 2)
	var first, second map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &first))
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &second))
	assert.Equal(t, map[string]any{
		"name": "burst of 100, offloaded to direct", "value": 1.75, "unit": "x", "target": 2.5, "better": "lower",
	}, first)
	assert.Nil(t, second["target"])
	assert.Contains(t, second, "target")

	var table bytes.Buffer
	require.NoError(t, report.WriteTable(&table))
	assert.Contains(t, table.String(), "≤ 2.50")
	assert.Regexp(t, `log, direct\s+312\s+MB/s\s+-\s+-`, table.String())
}
