// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/programtest"
)

// panel is one of a Grafana dashboard; a row has none of what it is asked for here.
type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr string }
}

// TestOffloadingDashboard: every panel asks for metrics and labels that the programs have by their page, which is held
// against the programs where they are wired.
func TestOffloadingDashboard(t *testing.T) {
	t.Parallel()
	var dashboard struct {
		UID        string
		Panels     []panel
		Templating struct {
			List []struct {
				Name  string
				Query any
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, "deploy", "grafana", "offloading.json")), &dashboard))
	assert.Equal(t, "caas-offloading", dashboard.UID)
	known := offloading(t)
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, one := range dashboard.Panels {
		assert.False(t, ids[one.ID], "two panels have the id %d", one.ID)
		ids[one.ID] = true
		for x := one.GridPos.X; x < one.GridPos.X+one.GridPos.W; x++ {
			for y := one.GridPos.Y; y < one.GridPos.Y+one.GridPos.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "%s is over it", one.Title)
				taken[[2]int{x, y}] = one.Title
			}
		}
		if one.Type == "row" {
			continue
		}
		assert.NotEmpty(t, one.Targets, one.Title)
		for _, target := range one.Targets {
			known.check(t, one.Title, target.Expr)
		}
	}
	for _, variable := range dashboard.Templating.List {
		if query, ok := variable.Query.(map[string]any); ok {
			text, _ := query["query"].(string)
			metric, _, found := strings.Cut(strings.TrimPrefix(text, "label_values("), ",")
			require.True(t, found, text)
			known.check(t, variable.Name, metric)
		}
	}
	for _, wanted := range []string{"caas_hop_duration_seconds", "caas_hop_requests_in_flight", "virtual_kubelet_retries_total", "virtual_kubelet_orphans_total"} {
		assert.True(t, known.used[wanted], "%s is in no panel", wanted)
	}
}

// TestAlerts is the same for rules.
func TestAlerts(t *testing.T) {
	t.Parallel()
	var rules struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, "deploy", "grafana", "alerts.yaml")), &rules))
	require.Len(t, rules.Groups, 1)
	require.NotEmpty(t, rules.Groups[0].Rules)
	known := offloading(t)
	for _, rule := range rules.Groups[0].Rules {
		known.check(t, rule.Alert, rule.Expr)
		assert.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
		assert.Contains(t, []string{"critical", "warning", "info"}, rule.Labels["severity"], rule.Alert)
	}
}

// metrics are those of all offloading programs, and which of them were asked for.
type metrics struct {
	types  map[string]string
	labels map[string][]string
	used   map[string]bool
}

func offloading(t *testing.T) metrics {
	t.Helper()
	known := metrics{types: map[string]string{}, labels: map[string][]string{}, used: map[string]bool{}}
	for _, program := range []string{"virtual-kubelet", "interlink-api", "interlink-sidecar", "interlink-sidecar with clients"} {
		for name, metric := range programtest.Documented(t, program) {
			known.types[name] = metric.Type
			known.labels[name] = append(known.labels[name], metric.Labels...)
			if strings.HasPrefix(program, "interlink-sidecar") {
				known.labels[name] = append(known.labels[name], "client")
			}
		}
	}
	return known
}

// check wants all that an expression asks for.
func (m metrics) check(t *testing.T, where, expression string) {
	t.Helper()
	asked := asksFor(expression)
	require.NotEmpty(t, asked.selectors, "%s asks for nothing: %s", where, expression)
	labels := []string{"job", "instance"}
	for _, selector := range asked.selectors {
		if strings.HasPrefix(selector.metric, "process_") || strings.HasPrefix(selector.metric, "go_") {
			continue
		}
		name := selector.metric
		for _, part := range []string{"_bucket", "_count", "_sum"} {
			if base, cut := strings.CutSuffix(name, part); cut && m.types[base] == "histogram" {
				name = base
				if part == "_bucket" {
					labels = append(labels, "le")
				}
			}
		}
		require.Contains(t, m.types, name, "%s asks for a metric that there is not: %s", where, expression)
		assert.Equal(t, m.types[name] == "histogram", name != selector.metric, "%s: a histogram is its parts: %s", where, expression)
		m.used[name] = true
		labels = append(labels, m.labels[name]...)
		for _, label := range selector.labels {
			assert.Contains(t, append(m.labels[name], "job", "instance"), label, "%s: %s has no such label", where, name)
		}
	}
	for _, label := range asked.groups {
		assert.Contains(t, labels, label, "%s: nothing in %s has this label", where, expression)
	}
}

// asked is what an expression of Prometheus' language asks for.
type asked struct {
	selectors []selector
	// groups are the labels by which results are put together.
	groups []string
}

type selector struct {
	metric string
	labels []string
}

// asksFor finds the selectors in an expression. It is no parser of the language, and need not be: what is left of an
// expression without texts, ranges and groupings are functions, which have a bracket behind them, operators, and metrics.
func asksFor(expression string) asked {
	expression = regexp.MustCompile(`"(\\.|[^"\\])*"`).ReplaceAllString(expression, `""`)
	expression = regexp.MustCompile(`\[[^\]]*\]`).ReplaceAllString(expression, "")
	var found asked
	grouping := regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	word := regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	for _, group := range grouping.FindAllStringSubmatch(expression, -1) {
		found.groups = append(found.groups, word.FindAllString(group[1], -1)...)
	}
	expression = grouping.ReplaceAllString(expression, " ")
	for _, match := range regexp.MustCompile(`\b([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\s*\{([^}]*)\})?\s*(\(?)`).FindAllStringSubmatch(expression, -1) {
		name, matchers, bracket := match[1], match[2], match[3]
		if bracket != "" || slices.Contains([]string{"and", "or", "unless", "offset", "bool", "sum", "avg", "min", "max", "count"}, name) {
			continue
		}
		found.selectors = append(found.selectors, selector{metric: name, labels: word.FindAllString(matchers, -1)})
	}
	return found
}

func TestAsksFor(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]asked{
		`sum by (le, to) (rate(a_bucket{to="b{c}", code!~"2..|\"x"}[$__rate_interval])) > 0.5 * 1e3`: {
			selectors: []selector{{"a_bucket", []string{"to", "code"}}}, groups: []string{"le", "to"},
		},
		`count(a == 0) or vector(0)`: {selectors: []selector{{"a", nil}}},
		`avg without(x) (a) and on (job) b:c offset 5m`: {
			selectors: []selector{{"a", nil}, {"b:c", nil}}, groups: []string{"x", "job"},
		},
	} {
		assert.Equal(t, want, asksFor(expression), expression)
	}
}
