// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apiserver/pkg/endpoints/request"
)

const (
	contentJSON       = "application/json"
	contentApply      = "application/apply-patch+"
	headerContentType = "Content-Type"

	// notYours is the end of what kube-mt-authz says of single objects that the caller may not know of.
	notYours = "mt: not found or not yours"
	// longestStatus is more than a refusal needs.
	longestStatus = 64 << 10
)

// statuses reads and writes the API server's errors in all of its formats.
type statuses struct{ infos []runtime.SerializerInfo }

func newStatuses() statuses {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return statuses{serializer.NewCodecFactory(scheme, serializer.WithSerializer(cbor.NewSerializerInfo)).SupportedMediaTypes()}
}

func (s statuses) serializer(contentType string) (runtime.Serializer, error) { //nolint:ireturn // of a format that only the answer knows
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, err
	}
	info, known := runtime.SerializerInfoForMediaType(s.infos, media)
	if !known {
		return nil, fmt.Errorf("no format of Kubernetes: %q", media)
	}
	return info.Serializer, nil
}

// hide makes a refusal of kube-mt-authz that stands for "not found" one. Other answers stay as they are, also such that
// cannot be read.
func (s statuses) hide(answer *http.Response, info *request.RequestInfo) error {
	if !hideable(answer, info) {
		return nil
	}
	body := answer.Body
	content, err := io.ReadAll(io.LimitReader(body, longestStatus+1))
	if err != nil {
		return err
	}
	answer.Body = rest{io.MultiReader(bytes.NewReader(content), body), body}
	format, err := s.serializer(answer.Header.Get(headerContentType))
	if err != nil || len(content) > longestStatus {
		return nil //nolint:nilerr // what is not understood is passed on
	}
	decoded, _, err := format.Decode(content, nil, nil)
	status, is := decoded.(*metav1.Status)
	if err != nil || !is || !strings.HasSuffix(status.Message, notYours) {
		return nil //nolint:nilerr // as above
	}
	missing := notFound(info)
	var out bytes.Buffer
	if err := format.Encode(&missing, &out); err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	answer.Body = rest{&out, body}
	answer.ContentLength = int64(out.Len())
	answer.Header.Set("Content-Length", strconv.Itoa(out.Len()))
	answer.StatusCode, answer.Status = http.StatusNotFound, "404 "+http.StatusText(http.StatusNotFound)
	return nil
}

// hideable tells answers that may stand for "not found". An apply would have created what is not there, so that its
// refusal means the other thing.
func hideable(answer *http.Response, info *request.RequestInfo) bool {
	named := info.IsResourceRequest && info.Name != "" && info.Verb != verbList && info.Verb != verbWatch && info.Verb != verbDeleteCollection
	return answer.StatusCode == http.StatusForbidden && named && answer.Header.Get("Content-Encoding") == "" &&
		(answer.Request == nil || !strings.HasPrefix(answer.Request.Header.Get(headerContentType), contentApply))
}

func notFound(info *request.RequestInfo) metav1.Status {
	status := apierrors.NewNotFound(schema.GroupResource{Group: info.APIGroup, Resource: info.Resource}, info.Name).ErrStatus
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	return status
}

// rest is what is left of a body.
type rest struct {
	io.Reader
	io.Closer
}

// refuse answers with an error of the proxy's own, in the form of the API server's.
func refuse(w http.ResponseWriter, problem *apierrors.StatusError) {
	status := problem.ErrStatus
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	reply(w, int(status.Code), status)
}

func reply(w http.ResponseWriter, code int, body any) {
	content, err := json.Marshal(body)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set(headerContentType, contentJSON)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(content, '\n')) // a client that has gone is told nothing
}

// unavailable says that the API server could not be asked. Clients try again when it is sure that nothing was done.
func unavailable(sentence string, again bool) *apierrors.StatusError {
	problem := apierrors.NewServiceUnavailable(sentence)
	if again {
		problem.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	}
	return problem
}

var errNoServer = errors.New("proxy: server is required: https://host:port without a path")
