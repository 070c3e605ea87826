// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
)

// TestReservedKeysInTemplates has a user write the platform's keys where controllers copy from.
func TestReservedKeysInTemplates(t *testing.T) {
	t.Parallel()
	const label = "a template in the object: metadata.labels[osn.infn.it/x] is the platform's and cannot be set"
	const note = "a template in the object: metadata.annotations[osn.infn.it/x] is the platform's and cannot be set"
	for name, test := range map[string]struct{ resource, object, want string }{
		"label of pods":         {"apps/deployments", "spec: {template: {metadata: {labels: {osn.infn.it/x: z}}, spec: {}}}", label},
		"annotation of pods":    {"batch/jobs", "spec: {template: {metadata: {annotations: {osn.infn.it/x: z}}, spec: {}}}", note},
		"label of Jobs":         {"batch/cronjobs", "spec: {jobTemplate: {metadata: {labels: {osn.infn.it/x: z}}, spec: {template: {spec: {}}}}}", label},
		"pods of Jobs":          {"batch/cronjobs", "spec: {jobTemplate: {spec: {template: {metadata: {annotations: {osn.infn.it/x: z}}, spec: {}}}}}", note},
		"claims":                {"apps/statefulsets", "spec: {template: {spec: {}}, volumeClaimTemplates: [{metadata: {name: d, labels: {osn.infn.it/x: z}}}]}", label},
		"a pod's claims":        {"core/pods", "spec: {volumes: [{name: v, ephemeral: {volumeClaimTemplate: {metadata: {annotations: {osn.infn.it/x: z}}, spec: {}}}}]}", note},
		"a claim's template":    {"resource.k8s.io/resourceclaimtemplates", "spec: {metadata: {labels: {osn.infn.it/x: z}}}", label},
		"owner is overwritten":  {"apps/deployments", "spec: {template: {metadata: {labels: {osn.infn.it/userid: " + bob + "}}, spec: {}}}", ""},
		"what users may choose": {"apps/deployments", "spec: {template: {metadata: {annotations: {osn.infn.it/policy: private, osn.infn.it/do-not-disrupt: 'true'}}, spec: {}}}", ""},
		"others' keys":          {"apps/deployments", "spec: {template: {metadata: {labels: {x.osn.infn.it/x: z}}, spec: {}}}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			made := parse(t, "metadata: {name: new}\n"+test.object)
			_, response := w.decide(t, request{by: user(alice), resource: test.resource, object: made})
			assert.Equal(t, test.want, refused(response))
			if test.want == "" || test.resource == "core/pods" {
				return
			}
			bare := of(alice, parse(t, "metadata: {name: new}\nspec: {}"))
			_, response = w.decide(t, request{by: user(alice), operation: admissionv1.Update, resource: test.resource, object: of(alice, made), old: bare})
			assert.Contains(t, refused(response), test.want, "on update")
			// What is stored already, or an operator writes, can be lived with.
			stored, response := w.decide(t, request{by: system("system:serviceaccount:caas-system:osnode-controller"), operation: admissionv1.Update, resource: test.resource, object: of(alice, made), old: bare})
			require.Empty(t, refused(response))
			_, response = w.decide(t, request{by: user(alice), operation: admissionv1.Update, resource: test.resource, object: stored, old: stored})
			assert.Empty(t, refused(response))
		})
	}
}
