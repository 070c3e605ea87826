// SPDX-License-Identifier: Apache-2.0

// Package rewind notices that a cluster went back in time: that its storage was
// restored from a backup. Versions of objects then begin again at an earlier number,
// and a watch that goes on from a later one hears nothing, without any error, until
// the numbers have caught up. Whoever keeps state by watches would believe for hours in
// what is no more.
//
//	config.Wrap(rewind.Transport)
//
// It also has them read anew as soon as the cluster is back. A reflector that fails waits
// before it tries again, and for longer each time: after half a minute of outage it
// would know nothing for half a minute more.
//
// It imports nothing of this repository but logging.
package rewind

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/logging"
)

const (
	// askTimeout bounds the question that comes before a watch.
	askTimeout = 10 * time.Second
	// retry is how long to wait before a cluster that is away is asked again.
	retry = time.Second
	// maxAnswer bounds its answer: one object's metadata.
	maxAnswer = 1 << 20

	onlyMetadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
)

// Transport wraps a client's transport. A watch that would go on from a version is
// answered with 410 Gone, upon which client-go's reflectors read everything anew, in two
// cases. One: the server could not be reached since the watch began the last time. Its
// storage cannot be replaced while it runs, and when it is back the numbers may have
// caught up already. Two: its present version is an earlier one. For that it is asked
// before, by a list of one object with the watch's own selectors: one request whenever a
// watch begins again, which is every few minutes.
func Transport(base http.RoundTripper) http.RoundTripper {
	return &transport{base: base, begun: map[string]uint64{}}
}

type transport struct {
	base http.RoundTripper

	mu sync.Mutex
	// outages counts answers that did not come, begun says how many there had been when a watch began.
	outages uint64
	begun   map[string]uint64
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if readsAnew(request) {
		return t.persist(request)
	}
	from, goesOn := watchedFrom(request)
	if !goesOn {
		return t.send(request)
	}
	if t.afterOutage(request) {
		logging.From(request.Context()).InfoContext(request.Context(), "read anew after an outage", "path", request.URL.Path)
		return gone(request), nil
	}
	now, known := t.version(request)
	if !known || now >= from {
		return t.send(request)
	}
	logging.From(request.Context()).WarnContext(request.Context(), "cluster went back in time", "path", request.URL.Path, "from", from, "to", now)
	return gone(request), nil
}

// readsAnew tells the watch by which a reflector begins: with everything that there is,
// whatever the version.
func readsAnew(request *http.Request) bool {
	return request.Method == http.MethodGet && request.URL.RawQuery != "" && truth(request.URL.Query().Get("sendInitialEvents"))
}

// persist asks again until there is an answer, for as long as somebody waits for it.
func (t *transport) persist(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	for tries := 1; ; tries++ {
		answer, err := t.send(request)
		if !away(answer, err) || ctx.Err() != nil {
			return answer, err
		}
		if err == nil {
			_ = answer.Body.Close()
		}
		if tries == 1 {
			logging.From(ctx).WarnContext(ctx, "cluster is away, asking until it is back", "path", request.URL.Path, "error", err)
		}
		timer := time.NewTimer(retry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// send sends a request and counts if there is nobody to answer it.
func (t *transport) send(request *http.Request) (*http.Response, error) {
	answer, err := t.base.RoundTrip(request)
	if away(answer, err) && request.Context().Err() == nil {
		t.mu.Lock()
		t.outages++
		t.mu.Unlock()
	}
	return answer, err
}

// away tells that nobody answered, or only what stands before the cluster.
func away(answer *http.Response, err error) bool {
	if err != nil {
		return true
	}
	switch answer.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// afterOutage tells whether the server was away since this watch began the last time.
func (t *transport) afterOutage(watch *http.Request) bool {
	query := watch.URL.Query()
	key := watch.URL.Path + "?" + query.Get("labelSelector") + "&" + query.Get("fieldSelector")
	t.mu.Lock()
	defer t.mu.Unlock()
	before, known := t.begun[key]
	t.begun[key] = t.outages
	return known && before != t.outages
}

// watchedFrom is the version from which a watch goes on.
func watchedFrom(request *http.Request) (version uint64, goesOn bool) {
	if request.Method != http.MethodGet || request.URL.RawQuery == "" {
		return 0, false
	}
	query := request.URL.Query()
	if !truth(query.Get("watch")) || truth(query.Get("sendInitialEvents")) {
		return 0, false
	}
	version, err := strconv.ParseUint(query.Get("resourceVersion"), 10, 64)
	return version, err == nil && version > 0
}

func truth(text string) bool {
	yes, err := strconv.ParseBool(text)
	return err == nil && yes
}

// version is the present version of what is to be watched. What cannot be found out is
// for the watch itself to find out.
func (t *transport) version(watch *http.Request) (version uint64, known bool) {
	ctx, cancel := context.WithTimeout(watch.Context(), askTimeout)
	defer cancel()
	question := watch.Clone(ctx)
	question.URL = listOfOne(watch.URL)
	question.Header.Set("Accept", onlyMetadata)
	answer, err := t.send(question)
	if err != nil {
		return 0, false
	}
	defer func() { _ = answer.Body.Close() }()
	var list metav1.PartialObjectMetadataList
	if answer.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&list) != nil {
		return 0, false
	}
	version, err = strconv.ParseUint(list.ResourceVersion, 10, 64)
	return version, err == nil && version > 0
}

// listOfOne asks for the newest state: no version is given.
func listOfOne(watch *url.URL) *url.URL {
	list := *watch
	query := list.Query()
	for _, key := range []string{"watch", "resourceVersion", "resourceVersionMatch", "allowWatchBookmarks", "timeoutSeconds", "timeout"} {
		query.Del(key)
	}
	query.Set("limit", "1")
	list.RawQuery = query.Encode()
	return &list
}

// gone is what an API server answers that no longer has the versions since then.
func gone(request *http.Request) *http.Response {
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: http.StatusGone,
		Reason: metav1.StatusReasonExpired, Message: "the cluster went back in time: it was restored from a backup",
	}
	body, err := json.Marshal(status)
	if err != nil {
		body = nil // the code says it, too
	}
	return &http.Response{
		Status: "410 Gone", StatusCode: http.StatusGone, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": []string{"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)), Request: request,
	}
}
