// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/manifest"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	objects, err := manifest.Decode([]byte("---\n# nothing here\n---\nkind: A\nmetadata: {name: a}\n---\n---\n{\"kind\": \"B\", \"metadata\": {\"name\": \"b\"}}\n"))
	require.NoError(t, err)
	require.Len(t, objects, 2)
	assert.Equal(t, "A", objects[0].GetKind())
	assert.Equal(t, "b", objects[1].GetName())

	_, err = manifest.Decode([]byte("kind: A\n---\nkind: [\n"))
	assert.ErrorContains(t, err, "document 2")
}
