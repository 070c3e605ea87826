// SPDX-License-Identifier: Apache-2.0

//go:build integration

package manifest_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/kubetest"
	"github.com/cloudveneto/caas/internal/lab/manifest"
)

func TestIntegrationApply(t *testing.T) {
	cluster := kubetest.Start(t, kubetest.Options{})
	files := fstest.MapFS{
		"crds/things.yaml": {Data: []byte(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing, listKind: ThingList}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`)},
		"objects.yaml": {Data: []byte(`
apiVersion: v1
kind: Namespace
metadata: {name: somewhere}
---
apiVersion: example.org/v1
kind: Thing
metadata: {name: first, namespace: somewhere}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: note}
data: {text: one}
`)},
	}
	for range 2 { // the second time changes nothing
		require.NoError(t, manifest.Apply(t.Context(), cluster.RESTConfig(), files, "crds/*.yaml", "objects.yaml"))
	}
	note, err := cluster.Client().CoreV1().ConfigMaps(metav1.NamespaceDefault).Get(t.Context(), "note", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"text": "one"}, note.Data)

	err = manifest.Apply(t.Context(), cluster.RESTConfig(), files, "*.json")
	require.ErrorContains(t, err, "there are none")
	files["bad.yaml"] = &fstest.MapFile{Data: []byte("apiVersion: example.org/v1\nkind: Unheard\nmetadata: {name: x}\n")}
	err = manifest.Apply(t.Context(), cluster.RESTConfig(), files, "bad.yaml")
	require.ErrorContains(t, err, "apply Unheard x")
}
