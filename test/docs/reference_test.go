// SPDX-License-Identifier: Apache-2.0

// Package docs_test holds the documentation against what it describes.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// root is the repository, seen from this package's directory.
const root = "../.."

func read(t *testing.T, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{root}, elem...)...))
	require.NoError(t, err)
	return string(data)
}

func page(t *testing.T, name string) string {
	t.Helper()
	return read(t, "docs", "reference", name)
}

// schema is the schema of a kind that deploy/osnode has a definition of.
func schema(t *testing.T, plural string) apiextensionsv1.JSONSchemaProps {
	t.Helper()
	definition := &apiextensionsv1.CustomResourceDefinition{}
	require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, "deploy", "osnode", "crds", "osnode.infn.it_"+plural+".yaml")), definition))
	require.Len(t, definition.Spec.Versions, 1)
	return *definition.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// fields are the paths of the leaves of a schema. What Kubernetes itself defines is a leaf.
func fields(of apiextensionsv1.JSONSchemaProps, prefix string) []string {
	var paths []string
	for name, field := range of.Properties {
		path := prefix + name
		if field.Type == "object" && len(field.Properties) > 0 && field.XMapType == nil {
			paths = append(paths, fields(field, path+".")...)
			continue
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// TestFields fails when a field is not in the page about its kind, and when the page has a field that does not exist.
func TestFields(t *testing.T) {
	t.Parallel()
	node := schema(t, "openstacknodes")
	text := page(t, "openstacknode.md")
	for part, heading := range map[string]string{"spec": "Spec", "status": "Status"} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			known := fields(node.Properties[part], "")
			require.Greater(t, len(known), 10)
			assert.Equal(t, known, firstColumn(section(t, text, heading)))
		})
	}
}

// TestPoolFields wants the fields of a pool in the page about it. Those of its template are an OpenStackNode's.
func TestPoolFields(t *testing.T) {
	t.Parallel()
	pool, text := schema(t, "openstacknodepools"), page(t, "openstacknodepool.md")
	for _, part := range []string{"spec", "status"} {
		known := slices.Sorted(maps.Keys(pool.Properties[part].Properties))
		require.NotEmpty(t, known)
		for _, name := range known {
			if name == "conditions" || name == "observedGeneration" { // which all kinds have
				continue
			}
			assert.Regexp(t, "`"+name+"[`.]", text, "%s.%s", part, name)
		}
	}
}

// section is what is under a heading of the second level.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, after, found := strings.Cut(text, "\n## "+heading+"\n")
	require.True(t, found, "the page has the heading %q", heading)
	within, _, _ := strings.Cut(after, "\n## ")
	return within
}

// firstColumn are the names in the first columns of the tables of a text.
func firstColumn(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, found := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			names = append(names, found[1])
		}
	}
	slices.Sort(names)
	return names
}

// TestNames wants every word that users can meet in the objects, and that the API or the controllers define, in the pages.
func TestNames(t *testing.T) {
	t.Parallel()
	node, pool := page(t, "openstacknode.md"), page(t, "openstacknodepool.md")
	for name, test := range map[string]struct {
		file   string
		prefix []string
		pages  string
	}{
		"conditions":  {"osnode/api/v1/conditions.go", []string{"Condition", "Reason"}, node + pool},
		"names":       {"osnode/api/v1/names.go", []string{"Finalizer", "Label", "NodeLabel", "Taint", "Annotation", "Meta"}, node},
		"phases":      {"osnode/api/v1/openstacknode.go", []string{"Phase", "Policy", "Repair"}, node},
		"drivers":     {"osnode/api/v1/openstacknodepool.go", []string{"Driver"}, pool},
		"events":      {"osnode/controller/events.go", []string{"event"}, node},
		"denials":     {"osnode/csr/decide.go", []string{"Reason"}, node},
		"pool events": {"osnode/pool/apply.go", []string{"event"}, pool},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			words := constants(t, test.file, test.prefix)
			require.NotEmpty(t, words)
			for constant, word := range words {
				if slices.Contains(unseen(), word) {
					continue
				}
				assert.Regexp(t, "`"+regexp.QuoteMeta(word)+"[`:]", test.pages, "constant %s of %s", constant, test.file)
			}
		})
	}
}

// unseen are words that no object has: verdicts about certificates that are no denials.
func unseen() []string { return []string{"Stranger", "Expected", "TokenBusy"} }

// constants are the string constants of a file whose names begin with one of the prefixes.
func constants(t *testing.T, file string, prefixes []string) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	words := map[string]string{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, isValue := n.(*ast.ValueSpec)
		if !isValue || len(spec.Values) != len(spec.Names) {
			return true
		}
		for i, name := range spec.Names {
			literal, isLiteral := spec.Values[i].(*ast.BasicLit)
			wanted := slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name.Name, prefix) })
			if !isLiteral || literal.Kind != token.STRING || !wanted {
				continue
			}
			word, err := strconv.Unquote(literal.Value)
			require.NoError(t, err)
			words[name.Name] = word
		}
		return true
	})
	return words
}

// TestMetrics wants all metrics of the controller in the page, and no others.
func TestMetrics(t *testing.T) {
	t.Parallel()
	var known []string
	for _, pattern := range []string{"controller/*.go", "csr/*.go", "openstack/*.go", "usage/*.go", "pool/*.go"} {
		files, err := filepath.Glob(filepath.Join(root, "osnode", pattern))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, found := range regexp.MustCompile(`"(osn_[a-z_]*[a-z])"`).FindAllSubmatch(text, -1) {
				known = append(known, string(found[1]))
			}
			for _, found := range regexp.MustCompile(`\bdesc\("([a-z_]+)"`).FindAllSubmatch(text, -1) {
				known = append(known, "osn_usage_"+string(found[1]))
			}
		}
	}
	slices.Sort(known)
	assert.Equal(t, known, firstColumn(section(t, page(t, "openstacknode.md"), "Metrics")))
}
