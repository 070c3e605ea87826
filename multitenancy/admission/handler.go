// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/gorilla/mux"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/logging"
)

// Paths of the two halves.
const (
	MutatePath   = "/mutate"
	ValidatePath = "/validate"
)

type decide func(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error)

// Router answers AdmissionReviews of version v1.
func (a *Admitter) Router() *mux.Router {
	router := mux.NewRouter()
	router.HandleFunc(MutatePath, serve(a.Mutate)).Methods(http.MethodPost)
	router.HandleFunc(ValidatePath, serve(a.Validate)).Methods(http.MethodPost)
	return router
}

// serve answers one review. What cannot be read is the API server's fault and answered
// with 400, which refuses; a decision is always 200.
func serve(decide decide) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			code, message := httpserver.BodyError(err)
			http.Error(w, message, code)
			return
		}
		review, err := parse(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		request := review.Request
		response, err := decide(ctx, request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if !response.Allowed {
			logging.From(ctx).InfoContext(ctx, "request refused",
				"path", r.URL.Path, "operation", string(request.Operation), "resource", request.Resource.Resource,
				"subresource", request.SubResource, "namespace", request.Namespace, "name", request.Name,
				"user", request.UserInfo.Username, "code", response.Result.Code)
		}
		answer(ctx, w, response)
	}
}

func parse(body []byte) (*admissionv1.AdmissionReview, error) {
	review := &admissionv1.AdmissionReview{}
	if err := json.Unmarshal(body, review); err != nil {
		return nil, errors.New("the body is no AdmissionReview")
	}
	if review.APIVersion != admissionv1.SchemeGroupVersion.String() || review.Kind != "AdmissionReview" {
		return nil, fmt.Errorf("want an AdmissionReview of %s", admissionv1.SchemeGroupVersion)
	}
	if review.Request == nil || review.Request.UID == "" {
		return nil, errors.New("the AdmissionReview has no request")
	}
	return review, nil
}

func answer(ctx context.Context, w http.ResponseWriter, response *admissionv1.AdmissionResponse) {
	content, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: response,
	})
	if err != nil {
		logging.From(ctx).ErrorContext(ctx, "answer is not JSON", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(content)
}

// withPatch adds the patch to an answer that allows.
func withPatch(response *admissionv1.AdmissionResponse, operations []operation) (*admissionv1.AdmissionResponse, error) {
	if !response.Allowed || len(operations) == 0 {
		return response, nil
	}
	patch, err := json.Marshal(operations)
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	kind := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = patch, &kind
	return response, nil
}
