// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/multitenancy/admission"
)

func post(tb testing.TB, w *world, path string, body []byte) *httptest.ResponseRecorder {
	tb.Helper()
	recorder := httptest.NewRecorder()
	w.Router().ServeHTTP(recorder, httptest.NewRequestWithContext(tb.Context(), http.MethodPost, path, bytes.NewReader(body)))
	return recorder
}

func encode(tb testing.TB, r request) []byte {
	tb.Helper()
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: r.review(tb),
	})
	require.NoError(tb, err)
	return body
}

func TestHandler(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	recorder := post(t, w, admission.MutatePath, encode(t, request{by: user(alice), resource: "core/pods", object: pod(t, "")}))
	require.Equal(t, http.StatusOK, recorder.Code)
	var review admissionv1.AdmissionReview
	require.NoError(t, json.Unmarshal(recorder.Body.Bytes(), &review))
	assert.Equal(t, "admission.k8s.io/v1", review.APIVersion)
	assert.EqualValues(t, "review", review.Response.UID)
	assert.True(t, review.Response.Allowed)
	assert.Equal(t, admissionv1.PatchTypeJSONPatch, *review.Response.PatchType)
	assert.Nil(t, review.Request, "the object is not sent back")

	recorder = post(t, w, admission.ValidatePath, encode(t, request{by: user(alice), resource: "core/pods", object: pod(t, "nodeName: node-1")}))
	require.Equal(t, http.StatusOK, recorder.Code, "a decision is no failure")
	require.NoError(t, json.Unmarshal(recorder.Body.Bytes(), &review))
	assert.False(t, review.Response.Allowed)

	for name, body := range map[string]string{
		"no JSON": "x", "empty": "{}", "no request": `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`,
		"old version": `{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"x"}}`,
		"bad object":  `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"x","namespace":"cms","object":[1]}}`,
	} {
		assert.Equal(t, http.StatusBadRequest, post(t, w, admission.ValidatePath, []byte(body)).Code, name)
	}
	recorder = httptest.NewRecorder()
	w.Router().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, admission.MutatePath, nil))
	assert.Equal(t, http.StatusMethodNotAllowed, recorder.Code)
}

// FuzzHandler: whatever is sent, there is an answer, and never a yes to what has no owner.
func FuzzHandler(f *testing.F) {
	f.Add(`{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a"}]}}`, "pods", "", "CREATE")
	f.Add(`{"metadata":{"labels":5},"spec":[]}`, "deployments", "", "UPDATE")
	f.Add(`{"spec":{"template":{"spec":{"volumes":[{"ephemeral":5}],"affinity":{"nodeAffinity":7}}}}}`, "daemonsets", "", "CREATE")
	f.Add(`{"spec":{"rules":[{"http":{"paths":[5]}}],"tls":"x"}}`, "ingresses", "status", "UPDATE")
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, content, resource, subresource, operation string) {
		if !json.Valid([]byte(content)) {
			return
		}
		made := request{by: user(alice), resource: "core/pods"}.review(t)
		made.Object.Raw, made.OldObject.Raw, made.Operation = []byte(content), []byte(content), admissionv1.Operation(operation)
		made.SubResource = subresource
		for group, names := range map[string]string{"apps": "deployments daemonsets statefulsets replicasets", "batch": "jobs cronjobs", "networking.k8s.io": "ingresses networkpolicies", "": resource} {
			if strings.Contains(names, resource) {
				made.Resource.Group, made.Resource.Resource = group, resource
			}
		}
		body, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: made})
		require.NoError(t, err)
		for _, path := range []string{admission.MutatePath, admission.ValidatePath} {
			recorder := post(t, w, path, body)
			assert.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, recorder.Code)
			var review admissionv1.AdmissionReview
			if path == admission.ValidatePath && recorder.Code == http.StatusOK {
				require.NoError(t, json.Unmarshal(recorder.Body.Bytes(), &review))
				if review.Response.Allowed && operation == "CREATE" && subresource == "" {
					var stored object
					require.NoError(t, json.Unmarshal([]byte(content), &stored))
					assert.Equal(t, alice, labelsOf(stored)["osn.infn.it/userid"])
				}
			}
		}
	})
}

func TestWebhookConfigurations(t *testing.T) {
	t.Parallel()
	content, err := admission.WebhookConfigurations("https://127.0.0.1:9445", []byte("ca"))
	require.NoError(t, err)
	parts := bytes.Split(content, []byte("---\n"))
	require.Len(t, parts, 2)
	var mutating admissionregistrationv1.MutatingWebhookConfiguration
	var validating admissionregistrationv1.ValidatingWebhookConfiguration
	require.NoError(t, yaml.UnmarshalStrict(parts[0], &mutating))
	require.NoError(t, yaml.UnmarshalStrict(parts[1], &validating))
	all := validating.Webhooks[0]
	assert.Equal(t, "https://127.0.0.1:9445/validate", *all.ClientConfig.URL)
	assert.Equal(t, []string{"*/*"}, all.Rules[0].Resources)
	assert.Equal(t, []string{"*"}, all.Rules[0].APIVersions, "A57: all versions are asked about")
	assert.Len(t, all.Rules[0].Operations, 4)
	assert.Equal(t, admissionregistrationv1.Fail, *all.FailurePolicy)
	assert.Equal(t, admissionregistrationv1.Ignore, *validating.Webhooks[1].FailurePolicy)
	assert.Equal(t, []string{"events"}, validating.Webhooks[1].Rules[0].Resources)
	assert.Equal(t, admissionregistrationv1.IfNeededReinvocationPolicy, *mutating.Webhooks[0].ReinvocationPolicy)
	assert.Equal(t, admissionregistrationv1.Equivalent, *mutating.Webhooks[0].MatchPolicy)

	for _, bad := range []string{"http://127.0.0.1:1", "127.0.0.1:1", "https://"} {
		_, err = admission.WebhookConfigurations(bad, []byte("ca"))
		assert.Error(t, err, bad)
	}
	_, err = admission.WebhookConfigurations("https://a:1", nil)
	assert.Error(t, err)
}
