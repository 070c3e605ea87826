// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
)

// TestDrillsAreComplete looks for a test of every drill that there has to be: those of this package by their table, and
// those with a hostile node, which need a cluster and no OpenStack, by the names of subtests beside what they test.
func TestDrillsAreComplete(t *testing.T) {
	t.Parallel()
	source, err := gobuild.FindSource("")
	require.NoError(t, err)
	found := subtests(t, filepath.Join(source, "deploy", "osnode"), filepath.Join(source, "osnode", "csr"))
	for _, one := range drills() {
		found[one.letter()] = append(found[one.letter()], "drills: "+one.name)
	}
	for letter := range strings.FieldsSeq(`C1 C2 C3 C4 Q1 Q2 H1 E1 S1 D1 D2 D3 D4 D5 D6 K1 K2 K3 K4 N1 T1 T2 T3 T4 T5 T6 G1 G2 A1 B1 M1 V1`) {
		t.Run(letter, func(t *testing.T) {
			assert.NotEmpty(t, found[letter], "no test has this drill in its name")
			t.Log(strings.Join(found[letter], "; "))
		})
	}
}

var letterForm = regexp.MustCompile(`\b[A-Z][1-9]\b`)

// subtests are the names in packages' tests that have letters of drills in them: first arguments of Run, and keys of maps.
func subtests(t *testing.T, dirs ...string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		require.NoError(t, err)
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			require.NoError(t, err)
			ast.Inspect(parsed, func(node ast.Node) bool {
				for _, letter := range letterForm.FindAllString(nameIn(node), -1) {
					found[letter] = append(found[letter], filepath.Base(dir)+"/"+filepath.Base(file)+": "+nameIn(node))
				}
				return true
			})
		}
	}
	return found
}

// nameIn is the name that a node of the syntax gives to a subtest; empty if it is another one.
func nameIn(node ast.Node) string {
	var name ast.Expr
	switch node := node.(type) {
	case *ast.KeyValueExpr:
		name = node.Key
	case *ast.CallExpr:
		if called, ok := node.Fun.(*ast.SelectorExpr); ok && called.Sel.Name == "Run" && len(node.Args) > 0 {
			name = node.Args[0]
		}
	}
	literal, ok := name.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return ""
	}
	return literal.Value
}
