// SPDX-License-Identifier: Apache-2.0

package programtest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Metric is what is known of a metric besides its name.
type Metric struct {
	// Type is counter, gauge or histogram.
	Type string
	// Labels are in alphabetical order.
	Labels []string
}

// MetricsPage is the page about metrics, seen from the directory of a program or of test/docs.
const MetricsPage = "../../docs/reference/metrics.md"

// Documented are the metrics of a program by what the page says under a heading of the second level.
func Documented(tb testing.TB, heading string) map[string]Metric {
	tb.Helper()
	page, err := os.ReadFile(filepath.FromSlash(MetricsPage))
	require.NoError(tb, err)
	_, after, found := strings.Cut(string(page), "\n## "+heading+"\n")
	require.True(tb, found, "the page has the heading %q", heading)
	within, _, _ := strings.Cut(after, "\n## ")
	all := map[string]Metric{}
	for line := range strings.Lines(within) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 2 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		require.Len(tb, cells, 8, "a line has six cells: %s", line)
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name := strings.Trim(cells[1], "`")
		require.NotContains(tb, all, name, "told twice")
		require.NotContains(tb, cells[1:7], "", "an empty cell: %s", line)
		metric := Metric{Type: cells[2], Labels: []string{}}
		for _, label := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[3], -1) {
			metric.Labels = append(metric.Labels, label[1])
		}
		slices.Sort(metric.Labels)
		all[name] = metric
	}
	require.NotEmpty(tb, all)
	return all
}

// Registered are the metrics in a registry, whether anything was counted or not.
func Registered(tb testing.TB, registry *prometheus.Registry) map[string]Metric {
	tb.Helper()
	described := make(chan *prometheus.Desc)
	go func() {
		defer close(described)
		registry.Describe(described)
	}()
	parts := regexp.MustCompile(`fqName: "([^"]+)".*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)
	all := map[string]Metric{}
	for one := range described {
		found := parts.FindStringSubmatch(one.String())
		require.Len(tb, found, 4, "not understood: %s", one)
		labels := regexp.MustCompile(`([a-z_]+)=`).FindAllStringSubmatch(found[2], -1)
		metric := Metric{Type: typeOf(found[1]), Labels: []string{}}
		for _, label := range labels {
			metric.Labels = append(metric.Labels, label[1])
		}
		metric.Labels = append(metric.Labels, strings.FieldsFunc(found[3], func(r rune) bool { return r == ',' })...)
		slices.Sort(metric.Labels)
		all[found[1]] = metric
	}
	return all
}

// typeOf is a metric's type by the conventions for names, to which this project keeps.
func typeOf(name string) string {
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter"
	case strings.HasSuffix(name, "_seconds"):
		return "histogram"
	}
	return "gauge"
}

// CheckMetrics wants the page to tell of the metrics in a program's registry, and of no others.
func CheckMetrics(tb testing.TB, heading string, registry *prometheus.Registry) {
	tb.Helper()
	documented, registered := Documented(tb, heading), Registered(tb, registry)
	for name, metric := range registered {
		assert.Equal(tb, metric, documented[name], "%s, in %s under %q", name, MetricsPage, heading)
	}
	for name := range documented {
		assert.Contains(tb, registered, name, "the program has no such metric")
	}
}

// CheckExposition wants the page to tell of all metrics, but the process's own, that a program shows: their types and labels.
func CheckExposition(tb testing.TB, heading, text string) {
	tb.Helper()
	documented, types := Documented(tb, heading), map[string]string{}
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(text, -1) {
		types[found[1]] = found[2]
	}
	require.NotEmpty(tb, types)
	for _, found := range regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? \S+$`).FindAllStringSubmatch(text, -1) {
		name := found[1]
		if _, typed := types[name]; !typed {
			name = regexp.MustCompile("_(bucket|sum|count)$").ReplaceAllString(name, "")
		}
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		metric := Metric{Type: types[name], Labels: []string{}}
		for _, label := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(found[2], -1) {
			if label[1] != "le" {
				metric.Labels = append(metric.Labels, label[1])
			}
		}
		slices.Sort(metric.Labels)
		require.Equal(tb, documented[name], metric, "%s, in %s under %q", name, MetricsPage, heading)
	}
}
