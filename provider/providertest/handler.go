// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
)

// handler serves the protocol. Like upstream's server it checks no method.
func (f *Far) handler() http.Handler {
	routes := map[string]func(http.ResponseWriter, *http.Request, []byte){
		interlink.PathPing:   f.ping,
		interlink.PathCreate: f.create,
		interlink.PathDelete: f.remove,
		interlink.PathStatus: f.statuses,
		interlink.PathLogs:   f.logs,
	}
	if slices.Contains(f.options.Extensions, interlink.ExtensionStatusStream) {
		routes[interlink.PathWatch] = f.watch
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		fault, down := f.record(Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), Body: body})
		serve, ok := routes[r.URL.Path]
		if !ok {
			serve, ok = f.ofPod(r.URL.Path)
		}
		if !ok {
			serve = func(w http.ResponseWriter, r *http.Request, _ []byte) { http.NotFound(w, r) }
		}
		answer := func(w http.ResponseWriter) { serve(w, r, body) }
		switch {
		case down:
			cut(w)
		case fault != nil:
			fault.answer(w, r, answer)
		default:
			answer(w)
		}
	})
}

// answer answers a request in place of the one that would.
func (f *Fault) answer(w http.ResponseWriter, r *http.Request, rightly func(http.ResponseWriter)) {
	switch {
	case f.CutBefore:
		cut(w)
	case f.CutAfter:
		rightly(&discard{header: http.Header{}})
		cut(w)
	case f.Silent:
		<-r.Context().Done()
	case f.Hold != nil:
		select {
		case <-f.Hold:
			rightly(w)
		case <-r.Context().Done():
		}
	default:
		if f.Refuse {
			w.Header().Set(interlink.HeaderRefusal, "true")
		}
		http.Error(w, f.Message, f.Code)
	}
}

// ofPod finds the route of an extension that is about one pod.
func (f *Far) ofPod(path string) (serve func(http.ResponseWriter, *http.Request, []byte), ok bool) {
	_, isUpdate := interlink.ParsePodUpdatePath(path)
	switch {
	case isUpdate:
		return f.update, slices.Contains(f.options.Extensions, interlink.ExtensionUpdate)
	case strings.HasSuffix(path, "/ephemeralcontainers"):
		return f.addEphemeral, slices.Contains(f.options.Extensions, interlink.ExtensionEphemeral)
	default:
		return nil, false
	}
}

// record notes the request and takes the next fault of its path.
func (f *Far) record(request Request) (*Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, request)
	queue := f.faults[request.Path]
	if len(queue) == 0 {
		return nil, f.down
	}
	f.faults[request.Path] = queue[1:]
	return &queue[0], f.down
}

func cut(w http.ResponseWriter) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	if conn, _, err := hijacker.Hijack(); err == nil {
		_ = conn.Close()
	}
}

// discard is an answer that nobody gets.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

func answer(w http.ResponseWriter, value any) {
	// Upstream flushes its status before the body, so there is no content type.
	encoded, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(append(encoded, '\n'))
}

func (f *Far) ping(w http.ResponseWriter, _ *http.Request, _ []byte) {
	if len(f.options.Extensions) == 0 {
		answer(w, []string{})
		return
	}
	answer(w, f.Ping())
}

func (f *Far) create(w http.ResponseWriter, _ *http.Request, body []byte) {
	var request interlink.CreateRequest
	if err := json.Unmarshal(body, &request); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	uid := request.Pod.UID
	f.mu.Lock()
	defer f.mu.Unlock()
	f.creates[uid]++
	idempotent := slices.Contains(f.options.Extensions, interlink.ExtensionIdempotent)
	switch known := f.pods[uid] != nil; {
	case known && !idempotent:
		http.Error(w, "pod exists already", http.StatusInternalServerError)
		return
	case !known && !f.tombs[uid]:
		r := f.newRemote(request.Pod)
		f.pods[uid] = r
		if f.options.AutoRun {
			r.change(corev1.PodRunning, run)
		}
		f.send(interlink.StatusEvent{Type: interlink.EventStatus, Status: r.report()})
	}
	answer(w, interlink.Created{PodUID: string(uid), PodJID: "job-" + string(uid)})
}

func (f *Far) update(w http.ResponseWriter, _ *http.Request, body []byte) {
	var request interlink.CreateRequest
	if err := json.Unmarshal(body, &request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.pods[request.Pod.UID]
	switch {
	case !ok:
		http.Error(w, "no such pod", http.StatusNotFound)
		return
	case r.deleting:
		http.Error(w, "the pod is ending", http.StatusConflict)
		return
	}
	r.pod = request.Pod
	r.mark(&request.Pod)
	f.send(interlink.StatusEvent{Type: interlink.EventStatus, Status: r.report()})
	_, _ = io.WriteString(w, "updated")
}

func (f *Far) remove(w http.ResponseWriter, _ *http.Request, body []byte) {
	var pod corev1.Pod
	if err := json.Unmarshal(body, &pod); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tombs[pod.UID] = true
	if r, ok := f.pods[pod.UID]; ok {
		r.deleting = true
		switch {
		case r.released != nil:
			f.drop(pod.UID, *r.released)
		case !f.options.HoldDeletes:
			f.drop(pod.UID, 143)
		}
	}
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, "deleted")
}

// addEphemeral adds ephemeral containers, which run at once.
func (f *Far) addEphemeral(w http.ResponseWriter, _ *http.Request, body []byte) {
	var pod corev1.Pod
	if err := json.Unmarshal(body, &pod); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.pods[pod.UID]
	if !ok {
		http.NotFound(w, nil)
		return
	}
	detail := *r.status.Detail
	detail.EphemeralContainers = slices.Clone(detail.EphemeralContainers)
	for i := range pod.Spec.EphemeralContainers {
		detail.EphemeralContainers = append(detail.EphemeralContainers, corev1.ContainerStatus{
			Name: pod.Spec.EphemeralContainers[i].Name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		})
	}
	r.status.Detail = &detail
	f.send(interlink.StatusEvent{Type: interlink.EventStatus, Status: r.report()})
	answer(w, interlink.Created{PodUID: string(pod.UID), PodJID: r.status.JobID})
}

func (f *Far) statuses(w http.ResponseWriter, _ *http.Request, body []byte) {
	var pods []corev1.Pod
	if err := json.Unmarshal(body, &pods); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if f.options.FirstOnly && len(pods) > 1 {
		pods = pods[:1]
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var reports []interlink.PodStatus // null when nothing is known, as upstream's
	for _, pod := range pods {
		if r, ok := f.pods[pod.UID]; ok {
			report := r.status
			report.Detail = nil
			reports = append(reports, report)
		}
	}
	answer(w, reports)
}

func (f *Far) logs(w http.ResponseWriter, r *http.Request, body []byte) {
	var request interlink.LogRequest
	if err := json.Unmarshal(body, &request); err != nil {
		http.Error(w, "invalid request body", http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	_, ok := f.pods[types.UID(request.PodUID)]
	f.mu.Unlock()
	if !ok {
		http.Error(w, "the pod has left no log", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusOK)
	_, _ = fmt.Fprintf(w, "log of %s/%s tail=%d\n", request.PodName, request.ContainerName, request.Opts.Tail)
	if request.Opts.Follow {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

func (f *Far) watch(w http.ResponseWriter, r *http.Request, _ []byte) {
	cluster, node := r.URL.Query().Get(interlink.QueryCluster), r.URL.Query().Get(interlink.QueryNode)
	stream := make(chan interlink.StatusEvent, 100_000)
	f.mu.Lock()
	for _, pod := range f.pods {
		if pod.status.Detail.OriginCluster == cluster && pod.status.Detail.OriginNode == node {
			stream <- interlink.StatusEvent{Type: interlink.EventStatus, Status: pod.report()}
		}
	}
	stream <- interlink.StatusEvent{Type: interlink.EventSynced}
	f.streams[stream] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.streams, stream)
		f.mu.Unlock()
	}()
	w.Header().Set("Content-Type", interlink.ContentTypeStream)
	if f.relay(w, r, stream) && f.breaks() {
		cut(w)
	}
}

// relay writes what comes, and tells whether no more does.
func (f *Far) relay(w http.ResponseWriter, r *http.Request, stream <-chan interlink.StatusEvent) (ended bool) {
	for {
		select {
		case <-r.Context().Done():
			return false
		case event, open := <-stream:
			if !open {
				return true
			}
			if send(w, event) != nil {
				return false
			}
			if len(stream) == 0 {
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
}

func (f *Far) breaks() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.breaking
}

// send writes one line of the stream.
func send(w http.ResponseWriter, event interlink.StatusEvent) error {
	return json.NewEncoder(w).Encode(event)
}

func run(status *corev1.ContainerStatus) {
	status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	status.Ready, status.Started = true, new(true)
}
