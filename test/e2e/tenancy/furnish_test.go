// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// belongings are what Alice and Bob each have: names end in -a and -b. MARKER is a text of the owner's.
const belongings = `
v1/secrets: {metadata: {name: s-X}, data: {of: SECRET}}
v1/configmaps: {metadata: {name: c-X}, data: {of: MARKER}}
v1/serviceaccounts: {metadata: {name: sa-X, annotations: {of: MARKER}}}
v1/pods:
  metadata: {name: p-X, labels: {app: web-X}, annotations: {of: MARKER}}
  spec:
    terminationGracePeriodSeconds: 0
    serviceAccountName: sa-X
    automountServiceAccountToken: false
    containers:
    - name: main
      image: docker.io/library/busybox:1.36
      env: [{name: OF, value: MARKER}]
      command: [sh, -c, "echo MARKER; mkdir /www; echo MARKER > /www/index.html; exec httpd -f -p 8080 -h /www"]
v1/services: {metadata: {name: svc-X, annotations: {of: MARKER}}, spec: {selector: {app: web-X}, ports: [{port: 80, targetPort: 8080}]}}
v1/persistentvolumeclaims:
  metadata: {name: v-X, annotations: {of: MARKER}}
  spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}}
apps/v1/deployments:
  metadata: {name: d-X, annotations: {of: MARKER}}
  spec:
    replicas: 0
    selector: {matchLabels: {d: d-X}}
    template: {metadata: {labels: {d: d-X}}, spec: {containers: [{name: main, image: busybox, env: [{name: OF, value: MARKER}]}]}}
batch/v1/cronjobs:
  metadata: {name: j-X, annotations: {of: MARKER}}
  spec:
    schedule: "0 0 1 1 *"
    jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: busybox}]}}}}
autoscaling/v2/horizontalpodautoscalers:
  metadata: {name: h-X, annotations: {of: MARKER}}
  spec: {maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d-X}}
networking.k8s.io/v1/ingresses:
  metadata: {name: i-X, annotations: {of: MARKER}}
  spec: {rules: [{host: X.example.org, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: svc-X, port: {number: 80}}}}]}}]}
`

// furnish gives Alice and Bob what they own, and waits until their pods run. What an earlier run left is made anew.
func (w *world) furnish(ctx context.Context) error {
	for suffix, owner := range map[string]person{"a": w.alice, "b": w.bob} {
		marker := "text-of-" + owner.name
		if suffix == "b" {
			marker = w.marker
		}
		text := strings.NewReplacer("-X", "-"+suffix, "X.example", suffix+".example", "MARKER", marker,
			"SECRET", base64.StdEncoding.EncodeToString([]byte(marker))).Replace(belongings)
		for _, one := range resourcesIn(text) {
			if err := w.renew(ctx, owner, one); err != nil {
				return err
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, owner := range []person{w.alice, w.bob} {
		name := "p-" + owner.name[:1]
		err := await(ctx, "pod "+name+" runs", func() error {
			got, err := owner.try(ctx, http.MethodGet, "v1/pods/"+name, "")
			if err != nil {
				return err
			}
			if phase, _, _ := unstructured.NestedString(got.object.Object, "status", "phase"); phase != "Running" {
				return fmt.Errorf("it is %s: %s", phase, got.body)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type belonging struct{ resource, object string }

// resourcesIn reads the parts of belongings, in their order.
func resourcesIn(text string) []belonging {
	var all []belonging
	for line := range strings.Lines(text) {
		if resource, rest, ok := strings.Cut(line, ": {metadata"); ok && !strings.HasPrefix(line, " ") {
			all = append(all, belonging{resource, "{metadata" + rest})
		} else if resource, ok := strings.CutSuffix(line, ":\n"); ok && !strings.HasPrefix(line, " ") {
			all = append(all, belonging{resource, ""})
		} else if strings.HasPrefix(line, " ") {
			all[len(all)-1].object += line
		}
	}
	return all
}

// renew makes an object, after one of that name that an earlier run has left.
func (w *world) renew(ctx context.Context, owner person, one belonging) error {
	return await(ctx, "create "+one.resource, func() error {
		got, err := owner.try(ctx, http.MethodPost, one.resource, one.object)
		switch {
		case err != nil:
			return err
		case got.code == http.StatusCreated:
			return nil
		case got.code == http.StatusConflict:
			name, _, _ := strings.Cut(one.object[strings.Index(one.object, "name: ")+len("name: "):], ",")
			name = strings.Fields(strings.Trim(strings.SplitN(name, "}", 2)[0], " "))[0]
			_, _ = owner.try(ctx, http.MethodDelete, one.resource+"/"+name, "") // or the next try does
		}
		return fmt.Errorf("%s %s: %d %s", owner.name, one.resource, got.code, got.body)
	})
}

// essence is what of an object nobody but its owner changes.
func essence(object *unstructured.Unstructured) map[string]any {
	kept := object.DeepCopy().Object
	delete(kept, "status")
	for _, field := range []string{"resourceVersion", "managedFields", "generation"} {
		unstructured.RemoveNestedField(kept, "metadata", field)
	}
	return kept
}

// untouched remembers objects, and the function that it returns looks whether they are as they were.
func (w *world) untouched(tb testing.TB, paths ...string) (check func()) {
	tb.Helper()
	before := map[string]map[string]any{}
	for _, path := range paths {
		before[path] = essence(w.root.gets(tb, path).object)
	}
	return func() {
		tb.Helper()
		for path, was := range before {
			got := w.root.do(tb, http.MethodGet, path, "")
			if assert.Equal(tb, http.StatusOK, got.code, "%s has gone", path) {
				assert.Equal(tb, was, essence(got.object), "%s has changed", path)
			}
		}
	}
}

// bobs are all that Bob has from the start.
func bobs() []string {
	return []string{
		"v1/secrets/s-b", "v1/configmaps/c-b", "v1/serviceaccounts/sa-b", "v1/pods/p-b", "v1/services/svc-b",
		"v1/persistentvolumeclaims/v-b", "apps/v1/deployments/d-b", "batch/v1/cronjobs/j-b",
		"autoscaling/v2/horizontalpodautoscalers/h-b", "networking.k8s.io/v1/ingresses/i-b",
	}
}

// eventually waits until it is so.
func eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	require.Eventually(tb, done, patience, 2*interval, what)
}

// stays looks for a while whether it is so and remains so.
func stays(tb testing.TB, what string, so func() bool) {
	tb.Helper()
	// assert.Never may leave a look under way that fails when the test has ended.
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(4 * interval) {
		if !assert.True(tb, so(), what) {
			return
		}
	}
}
