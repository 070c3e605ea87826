// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

func metadataOf(name, uid, owner string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: space, Name: name, UID: types.UID(uid), Labels: map[string]string{tenant.LabelUserID: owner},
	}}
}

func TestTableFollows(t *testing.T) {
	t.Parallel()
	table := authz.NewTable(resource("", "pods"))
	require.NoError(t, table.Add(metadataOf("one", "1", alice)))
	require.NoError(t, table.Update(metadataOf("one", "2", bob)))
	object, known := table.Known(space, "one")
	assert.True(t, known)
	assert.Equal(t, authz.Object{UID: "2", Owner: tenant.Owner{UserID: bob}}, object)
	_, known = table.Known(elsewhere, "one")
	assert.False(t, known)
	require.NoError(t, table.Delete(metadataOf("one", "2", bob)))
	assert.Zero(t, table.Size())

	require.NoError(t, table.Add(metadataOf("old", "1", alice)))
	var objects []any
	for i := range 1000 {
		objects = append(objects, metadataOf(fmt.Sprintf("pod-%d", i), "u", alice))
	}
	require.NoError(t, table.Replace(objects, "7"))
	assert.Equal(t, 1000, table.Size())
	_, known = table.Known(space, "old")
	assert.False(t, known)
	assert.Error(t, table.Add(&metav1.Status{}))
}

func TestTableIsFreshWhileItHears(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 90 * time.Second
		table := authz.NewTable(resource("", "pods"))
		require.NoError(t, table.Add(metadataOf("one", "1", alice)))
		assert.False(t, table.Fresh(limit), "not all is known")
		require.NoError(t, table.Replace(nil, "1"))
		assert.True(t, table.Fresh(limit))
		time.Sleep(limit - time.Second)
		assert.True(t, table.Fresh(limit))
		require.NoError(t, table.Bookmark("2"))
		time.Sleep(limit - time.Second)
		assert.True(t, table.Fresh(limit))
		time.Sleep(time.Second)
		assert.False(t, table.Fresh(limit))
		require.NoError(t, table.Delete(metadataOf("one", "1", alice)))
		assert.True(t, table.Fresh(limit))
	})
}

func TestTableReadsWhileItIsWritten(t *testing.T) {
	t.Parallel()
	table := authz.NewTable(resource("", "pods"))
	var working sync.WaitGroup
	for writer := range 4 {
		working.Go(func() {
			for i := range 500 {
				name := fmt.Sprintf("pod-%d-%d", writer, i)
				assert.NoError(t, table.Add(metadataOf(name, name, alice)))
				object, known := table.Known(space, name)
				assert.True(t, known)
				assert.Equal(t, name, object.UID)
			}
		})
	}
	working.Wait()
	assert.Equal(t, 2000, table.Size())
}
