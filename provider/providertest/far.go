// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/interlink"
)

// All are the extensions of this project's far end.
func All() []interlink.Extension {
	return []interlink.Extension{
		interlink.ExtensionStatusStream, interlink.ExtensionReferences, interlink.ExtensionIdempotent,
		interlink.ExtensionUpdate,
	}
}

// Options choose how the far end behaves.
type Options struct {
	// Extensions it offers; none makes it upstream's.
	Extensions []interlink.Extension
	// AutoRun lets created pods run at once.
	AutoRun bool
	// HoldDeletes keeps deleted pods until Release.
	HoldDeletes bool
	// FirstOnly answers status queries for the first pod of the list only.
	FirstOnly bool
}

// Request is one request that the far end received.
type Request struct {
	Method string
	Path   string
	Query  string
	Header http.Header
	Body   []byte
}

// Fault is what happens to a request instead of a normal answer.
type Fault struct {
	// Code answers with this status code and Message.
	Code    int
	Message string
	// Refuse marks the answer as final.
	Refuse bool
	// CutBefore cuts the connection before, CutAfter after the request has taken effect.
	CutBefore bool
	CutAfter  bool
	// Hold, if not nil, keeps the request back until it is closed, and has it served then.
	Hold <-chan struct{}
	// Silent takes the request and never answers.
	Silent bool
}

// Far is a far end.
type Far struct {
	options Options
	server  *httptest.Server

	mu       sync.Mutex
	pods     map[types.UID]*remote
	requests []Request
	faults   map[string][]Fault
	down     bool
	creates  map[types.UID]int
	streams  map[chan interlink.StatusEvent]bool
	// breaking cuts streams where they would end in good order.
	breaking bool
	tombs    map[types.UID]bool
}

// remote is one pod at the far end.
type remote struct {
	pod      corev1.Pod
	status   interlink.PodStatus
	deleting bool
	// released, if not nil, is what to end with as soon as the pod is deleted.
	released *int32
}

// Start starts a far end that ends with the test.
func Start(t *testing.T, options Options) *Far {
	t.Helper()
	f := &Far{
		options: options,
		pods:    map[types.UID]*remote{},
		faults:  map[string][]Fault{},
		creates: map[types.UID]int{},
		streams: map[chan interlink.StatusEvent]bool{},
		tombs:   map[types.UID]bool{},
	}
	f.server = httptest.NewServer(f.handler())
	t.Cleanup(func() {
		f.Disconnect()
		f.server.CloseClientConnections()
		f.server.Close()
	})
	return f
}

// URL is where the far end listens.
func (f *Far) URL() string { return f.server.URL }

// Client returns a client of the far end.
func (f *Far) Client(t *testing.T) *interlink.Client {
	t.Helper()
	transport, err := interlink.NewTransport(f.URL(), nil)
	require.NoError(t, err)
	t.Cleanup(transport.CloseIdleConnections)
	client, err := interlink.NewClient(interlink.ClientConfig{
		BaseURL: f.URL(), HTTP: &http.Client{Transport: transport}, Timeout: time.Minute,
	})
	require.NoError(t, err)
	return client
}

// Ping is what the far end answers to a ping.
func (f *Far) Ping() interlink.PingResponse {
	return interlink.PingResponse{Status: "ok", Extensions: f.options.Extensions}
}

// Fail lets the next request to path meet fault. Faults of one path queue up.
func (f *Far) Fail(path string, faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[path] = append(f.faults[path], faults...)
}

// SetDown lets every connection be cut, until it is called with false.
func (f *Far) SetDown(down bool) {
	f.mu.Lock()
	f.down = down
	f.mu.Unlock()
	if down {
		f.Disconnect()
	}
}

// Disconnect ends all status streams.
func (f *Far) Disconnect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for stream := range f.streams {
		close(stream)
		delete(f.streams, stream)
	}
}

// Break cuts all status streams.
func (f *Far) Break() {
	f.mu.Lock()
	f.breaking = true
	f.mu.Unlock()
	f.Disconnect()
}

// Streams is the number of open status streams.
func (f *Far) Streams() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.streams)
}

// Requests returns what was received at path so far, or everything for "".
func (f *Far) Requests(path string) []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	if path == "" {
		return slices.Clone(f.requests)
	}
	var list []Request
	for _, request := range f.requests {
		if request.Path == path {
			list = append(list, request)
		}
	}
	return list
}

// Held are the UIDs of the pods that the far end holds.
func (f *Far) Held() []types.UID {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []types.UID
	for uid := range f.pods {
		list = append(list, uid)
	}
	return list
}

// Created returns the pod as it was created, and how often.
func (f *Far) Created(uid types.UID) (pod corev1.Pod, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.pods[uid]; ok {
		pod = r.pod
	}
	return pod, f.creates[uid]
}

// Hold puts a pod into the far end as if it had been created there before.
func (f *Far) Hold(pod corev1.Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods[pod.UID] = f.newRemote(pod)
}

// Wait has all containers of a pod wait, and say why.
func (f *Far) Wait(uid types.UID, why corev1.ContainerStateWaiting) {
	f.set(uid, corev1.PodPending, func(status *corev1.ContainerStatus) { status.State = corev1.ContainerState{Waiting: &why} })
}

// Run lets a pod run.
func (f *Far) Run(uid types.UID) {
	f.set(uid, corev1.PodRunning, func(status *corev1.ContainerStatus) {
		status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
		status.Ready, status.Started = true, new(true)
	})
}

// Finish lets all containers of a pod end with the given exit code.
func (f *Far) Finish(uid types.UID, exitCode int32) {
	phase := corev1.PodSucceeded
	if exitCode != 0 {
		phase = corev1.PodFailed
	}
	f.set(uid, phase, terminate(exitCode))
}

func terminate(exitCode int32) func(*corev1.ContainerStatus) {
	return func(status *corev1.ContainerStatus) {
		status.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: exitCode, Reason: "Ended", StartedAt: metav1.Now(), FinishedAt: metav1.Now(),
		}}
		status.Ready = false
	}
}

// set changes the containers of a pod and tells the streams.
func (f *Far) set(uid types.UID, phase corev1.PodPhase, change func(*corev1.ContainerStatus)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.pods[uid]
	if !ok {
		return
	}
	r.change(phase, change)
	f.send(interlink.StatusEvent{Type: interlink.EventStatus, Status: r.report()})
}

func (r *remote) change(phase corev1.PodPhase, change func(*corev1.ContainerStatus)) {
	r.status.Containers = slices.Clone(r.status.Containers)
	for i := range r.status.Containers {
		change(&r.status.Containers[i])
	}
	if r.status.Detail != nil {
		detail := *r.status.Detail
		detail.Phase = phase
		r.status.Detail = &detail
	}
}

func (r *remote) report() *interlink.PodStatus { return new(r.status) }

// Release lets a deleted pod end, its containers with the given exit code.
func (f *Far) Release(uid types.UID, exitCode int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.pods[uid]
	switch {
	case !ok:
	case r.deleting:
		f.drop(uid, exitCode)
	default:
		r.released = &exitCode
	}
}

// Vanish removes a pod behind everyone's back, as it was.
func (f *Far) Vanish(uid types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.pods[uid]; ok {
		delete(f.pods, uid)
		f.send(interlink.StatusEvent{Type: interlink.EventGone, Status: r.report()})
	}
}

func (f *Far) drop(uid types.UID, exitCode int32) {
	r := f.pods[uid]
	delete(f.pods, uid)
	phase := corev1.PodFailed
	if exitCode == 0 {
		phase = corev1.PodSucceeded
	}
	if !ended(r) {
		r.change(phase, terminate(exitCode))
	}
	f.send(interlink.StatusEvent{Type: interlink.EventGone, Status: r.report()})
}

func ended(r *remote) bool {
	return !slices.ContainsFunc(r.status.Containers, func(s corev1.ContainerStatus) bool { return s.State.Terminated == nil })
}

// Tell sends an event of the test's own making to all streams.
func (f *Far) Tell(event interlink.StatusEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.send(event)
}

func (f *Far) send(event interlink.StatusEvent) {
	for stream := range f.streams {
		stream <- event
	}
}

func (f *Far) newRemote(pod corev1.Pod) *remote {
	r := &remote{pod: pod, status: interlink.PodStatus{
		Name: pod.Name, Namespace: pod.Namespace, UID: string(pod.UID), JobID: "job-" + string(pod.UID),
	}}
	waiting := func(list []corev1.Container) []corev1.ContainerStatus {
		var statuses []corev1.ContainerStatus
		for _, container := range list {
			statuses = append(statuses, corev1.ContainerStatus{
				Name: container.Name, Image: container.Image,
				State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
			})
		}
		return statuses
	}
	r.status.Containers, r.status.InitContainers = waiting(pod.Spec.Containers), waiting(pod.Spec.InitContainers)
	if slices.Contains(f.options.Extensions, interlink.ExtensionStatusStream) {
		r.status.Detail = &interlink.PodDetail{
			Phase: corev1.PodPending, PodIP: "10.1.2.3", HostIP: "10.9.9.9", StartTime: new(metav1.Now()),
			OriginCluster: pod.Annotations[interlink.AnnotationOriginCluster],
			OriginNode:    pod.Annotations[interlink.AnnotationOriginNode],
		}
		r.mark(&pod)
	}
	return r
}

// mark keeps the marks that came with a pod.
func (r *remote) mark(pod *corev1.Pod) {
	if r.status.Detail == nil {
		return
	}
	detail := *r.status.Detail
	detail.Revision, detail.RefreshAt = pod.Annotations[interlink.AnnotationRevision], nil
	if at, err := time.Parse(time.RFC3339, pod.Annotations[interlink.AnnotationRefreshAt]); err == nil {
		detail.RefreshAt = &metav1.Time{Time: at}
	}
	r.status.Detail = &detail
}

// Updates are the updates of a pod that were received so far.
func (f *Far) Updates(t *testing.T, uid types.UID) []interlink.CreateRequest {
	t.Helper()
	var list []interlink.CreateRequest
	for _, request := range f.Requests(interlink.PodUpdatePath(string(uid))) {
		list = append(list, Decode[interlink.CreateRequest](t, request))
	}
	return list
}

// Decode reads the body of a recorded request.
func Decode[T any](t *testing.T, request Request) T {
	t.Helper()
	var value T
	require.NoError(t, json.Unmarshal(request.Body, &value))
	return value
}
