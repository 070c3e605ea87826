// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const manyObjects = 200_000

// manyOwned are objects of 500 owners in 100 namespaces, one of which is Alice's and Bob's.
func manyOwned(count int) iter.Seq2[authz.Resource, *metav1.PartialObjectMetadata] {
	return func(yield func(authz.Resource, *metav1.PartialObjectMetadata) bool) {
		namespace := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: space, Labels: map[string]string{tenant.LabelProjectID: project}}}
		if !yield(resource("", "namespaces"), namespace) {
			return
		}
		kinds := []authz.Resource{resource("", "pods"), resource("", "configmaps"), resource("", "secrets"), resource("apps", "deployments")}
		owners := []string{alice, bob}
		for i := range 498 {
			owners = append(owners, fmt.Sprintf("%032x", i))
		}
		for i := range count {
			owner := owners[i/len(kinds)%len(owners)]
			namespace := fmt.Sprintf("project-%d", i%100)
			if owner == alice || owner == bob {
				namespace = space
			}
			object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace, Name: fmt.Sprintf("some-workload-5d9f7c6b8d-%06d", i), UID: types.UID(fmt.Sprintf("8c1f3a52-0b7e-4d9c-9f0e-%012d", i)),
				Labels: tenant.Mark{UserID: owner, UserName: "somebody", Project: tenant.Project{ID: project, Name: "CMS"}}.Labels(),
			}}
			if !yield(kinds[i%len(kinds)], object) {
				return
			}
		}
	}
}

// noObjects is for what is all in the index.
type noObjects struct{}

func (noObjects) Object(context.Context, string, authz.Key) (authz.Object, authz.Knowledge) {
	return authz.Object{}, authz.Absent
}

func reviewBody(tb testing.TB, user tenant.User, attributes authorizationv1.ResourceAttributes) []byte {
	tb.Helper()
	review := authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Name, UID: user.UID, Groups: user.Groups, Extra: map[string]authorizationv1.ExtraValue{}, ResourceAttributes: &attributes,
	}}
	review.APIVersion, review.Kind = "authorization.k8s.io/v1", "SubjectAccessReview"
	for key, values := range user.Extra {
		review.Spec.Extra[key] = values
	}
	body, err := json.Marshal(review)
	require.NoError(tb, err)
	return body
}

// BenchmarkDecision is a review through the handler, without TLS, with 200,000 objects in the index.
func BenchmarkDecision(b *testing.B) {
	index := authz.Filled(manyOwned(manyObjects))
	authorizer, err := authz.New(authz.Config{Rules: newRules(b, authz.Options{}), Facts: index, Objects: noObjects{}, Metrics: prometheus.NewRegistry()})
	require.NoError(b, err)
	handler := authorizer.Handler()
	user := userOf(alice, project, "member")
	for name, attributes := range map[string]authorizationv1.ResourceAttributes{
		"own":     {Verb: "get", Resource: "pods", Namespace: space, Name: "some-workload-5d9f7c6b8d-100000"},
		"foreign": {Verb: "get", Resource: "pods", Namespace: space, Name: "some-workload-5d9f7c6b8d-100004"},
		"list": {Verb: "list", Resource: "pods", Namespace: space, LabelSelector: &authorizationv1.LabelSelectorAttributes{
			Requirements: []metav1.LabelSelectorRequirement{in(tenant.LabelUserID, alice)},
		}},
	} {
		body := reviewBody(b, user, attributes)
		b.Run(name, func(b *testing.B) {
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				began := time.Now()
				recorder := httptest.NewRecorder()
				handler.ServeHTTP(recorder, httptest.NewRequestWithContext(b.Context(), http.MethodPost, authz.Path, bytes.NewReader(body)))
				took = append(took, time.Since(began))
				if recorder.Code != http.StatusOK || bytes.Contains(recorder.Body.Bytes(), []byte(`"denied":true`)) != (name == "foreign") {
					b.Fatal(recorder.Body.String())
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkIndexMemory is what 200,000 objects weigh.
func BenchmarkIndexMemory(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		index := authz.Filled(manyOwned(manyObjects))
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/manyObjects, "B/object")
		runtime.KeepAlive(index)
	}
}
