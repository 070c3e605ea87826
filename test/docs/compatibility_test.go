// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// row is one line of the compatibility table.
type row struct {
	field string
	// fate is what becomes of the field as it comes; sited what does under a site's policy, empty if the same.
	fate, sited string
	how         string
	proofs      []string
}

// tables are the types that the page has a table of, by their headings.
func tables() map[string]reflect.Type {
	return map[string]reflect.Type{
		"ObjectMeta":           reflect.TypeFor[metav1.ObjectMeta](),
		"PodSpec":              reflect.TypeFor[corev1.PodSpec](),
		"Container":            reflect.TypeFor[corev1.Container](),
		"ContainerPort":        reflect.TypeFor[corev1.ContainerPort](),
		"ResourceRequirements": reflect.TypeFor[corev1.ResourceRequirements](),
		"EnvVar":               reflect.TypeFor[corev1.EnvVar](),
		"EnvVarSource":         reflect.TypeFor[corev1.EnvVarSource](),
		"EnvFromSource":        reflect.TypeFor[corev1.EnvFromSource](),
		"PodSecurityContext":   reflect.TypeFor[corev1.PodSecurityContext](),
		"SecurityContext":      reflect.TypeFor[corev1.SecurityContext](),
		"Volume":               reflect.TypeFor[corev1.Volume](),
		"VolumeSource":         reflect.TypeFor[corev1.VolumeSource](),
		"VolumeProjection":     reflect.TypeFor[corev1.VolumeProjection](),
		"Affinity":             reflect.TypeFor[corev1.Affinity](),
		"PodDNSConfig":         reflect.TypeFor[corev1.PodDNSConfig](),
		"PodStatus":            reflect.TypeFor[corev1.PodStatus](),
		"ContainerStatus":      reflect.TypeFor[corev1.ContainerStatus](),
	}
}

// fates are the words of the second column.
func fates() []string { return []string{"kept", "mapped", "dropped", "refused", "own"} }

// compatibility is the table under a heading of the page.
func compatibility(t *testing.T, heading string) []row {
	t.Helper()
	var rows []row
	for line := range strings.Lines(section(t, page(t, "compatibility.md"), heading)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 2 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		require.Len(t, cells, 6, "a line has four cells: %s", line)
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		fate, sited, _ := strings.Cut(cells[2], "; by policy ")
		one := row{field: strings.Trim(cells[1], "`"), fate: fate, sited: sited, how: cells[3]}
		for _, proof := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[4], -1) {
			one.proofs = append(one.proofs, proof[1])
		}
		rows = append(rows, one)
	}
	return rows
}

// TestCompatibilityIsComplete fails when a field of the pinned Kubernetes types is not in its table, and when a table
// has a field that does not exist.
func TestCompatibilityIsComplete(t *testing.T) {
	t.Parallel()
	for heading, of := range tables() {
		t.Run(heading, func(t *testing.T) {
			t.Parallel()
			var known, written []string
			for field := range of.Fields() {
				if name := jsonName(&field); name != "" {
					known = append(known, name)
				}
			}
			for _, one := range compatibility(t, heading) {
				written = append(written, one.field)
				assert.Contains(t, fates(), one.fate, one.field)
				assert.NotEmpty(t, one.how, one.field)
				assert.NotEmpty(t, one.proofs, one.field)
				if one.sited != "" {
					assert.Contains(t, fates(), one.sited, one.field)
					assert.NotEqual(t, one.fate, one.sited, one.field)
				}
			}
			slices.Sort(known)
			slices.Sort(written)
			assert.Equal(t, known, written)
		})
	}
}

// jsonName is a field's name in JSON, empty for what is embedded.
func jsonName(field *reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}

// TestCompatibilityFollowsTheCode compares the page with the tables by which the code refuses what it does not know.
func TestCompatibilityFollowsTheCode(t *testing.T) {
	t.Parallel()
	for heading, classes := range map[string]map[string]translate.Class{
		"PodSpec": translate.PodFields(), "Container": translate.ContainerFields(), "VolumeSource": translate.VolumeFields(),
	} {
		for _, one := range compatibility(t, heading) {
			assert.Contains(t, []string{one.fate, one.sited}, string(classes[one.field]), "%s.%s", heading, one.field)
		}
	}
}

// TestCompatibilityIsProven wants every test that the page names to exist.
func TestCompatibilityIsProven(t *testing.T) {
	t.Parallel()
	named := map[string][]string{}
	for heading := range tables() {
		for _, one := range compatibility(t, heading) {
			for _, proof := range one.proofs {
				dir, function, found := strings.Cut(proof, ".")
				require.True(t, found, "%s.%s: %s is no package.Test", heading, one.field, proof)
				named[dir] = append(named[dir], function)
			}
		}
	}
	for _, proof := range regexp.MustCompile(`[(|,] *\x60((?:[a-z0-9]+/)*[a-z0-9]+)\.(Test\w+)\x60`).FindAllStringSubmatch(page(t, "compatibility.md"), -1) {
		named[proof[1]] = append(named[proof[1]], proof[2]) // those beside the tables of fields too
	}
	for dir, functions := range named {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			there := testsIn(t, dir)
			for _, function := range functions {
				assert.Contains(t, there, function)
			}
		})
	}
}

// testsIn are the test functions of a package, whatever build tags its files have.
func testsIn(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	require.NoError(t, err)
	var names []string
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, declaration := range parsed.Decls {
			function, isFunction := declaration.(*ast.FuncDecl)
			if isFunction && function.Recv == nil && strings.HasPrefix(function.Name.Name, "Test") {
				names = append(names, function.Name.Name)
			}
		}
	}
	return names
}
