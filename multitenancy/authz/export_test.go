// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"iter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

// Table is what a reflector fills.
type Table = table

// NewTable makes a table that is in no index.
func NewTable(resource Resource) *Table { return newTable(resource, false) }

// Known tells what the table has.
func (t *table) Known(namespace, name string) (Object, bool) { return t.object(namespace, name) }

// Fresh tells whether the table counts.
func (t *table) Fresh(limit time.Duration) bool { return t.fresh(limit) }

// Size is how many objects there are.
func (t *table) Size() int { return t.size() }

var (
	_ cache.TransformingStore      = &Table{}
	_ cache.ReflectorBookmarkStore = &Table{}
)

// Filled makes an index that has these objects and is ready, without a cluster.
func Filled(objects iter.Seq2[Resource, *metav1.PartialObjectMetadata]) *Index {
	x := &Index{cfg: IndexConfig{Stale: time.Hour}}
	kinds := map[Resource]kind{}
	for resource, object := range objects {
		k, ok := kinds[resource]
		if !ok {
			k = kind{
				servedKind: servedKind{version: schema.GroupVersionResource{Group: resource.Group, Version: "v1", Resource: resource.Resource}},
				table:      newTable(resource, resource == core(resourceNamespaces)),
			}
			k.table.synced.Store(true)
			kinds[resource] = k
		}
		_ = k.table.Add(object) // fails for other types only
	}
	x.kinds.Store(&kinds)
	x.ready.Store(true)
	return x
}
