// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider"
	"github.com/cloudveneto/caas/provider/bundle"
)

// memory is a far end without a network, for tests in which time is simulated. It
// holds one pod.
type memory struct {
	mu      sync.Mutex
	pod     *corev1.Pod
	token   string
	updates []time.Time
	// fails is how many updates fail from now on.
	fails int
}

func (m *memory) take(request *interlink.CreateRequest) {
	m.pod = &request.Pod
	for _, volume := range request.ProjectedVolumes {
		m.token = volume.Data["token"]
	}
}

func (m *memory) Create(_ context.Context, request *interlink.CreateRequest) (interlink.Created, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.take(request)
	return interlink.Created{PodUID: string(request.Pod.UID), PodJID: "job"}, nil
}

func (m *memory) Update(_ context.Context, request *interlink.CreateRequest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.updates = append(m.updates, time.Now())
	if m.fails > 0 {
		m.fails--
		return errors.New("the far end is down")
	}
	m.take(request)
	return nil
}

func (m *memory) Delete(context.Context, *corev1.Pod) error { return nil }

func (m *memory) Status(context.Context, []*corev1.Pod) ([]interlink.PodStatus, error) {
	return nil, nil
}

func (m *memory) Logs(context.Context, interlink.LogRequest) (io.ReadCloser, error) {
	return nil, errors.New("no logs")
}

func (m *memory) Watch(ctx context.Context, _ interlink.WatchRequest, handle func(interlink.StatusEvent) error) error {
	m.mu.Lock()
	if m.pod != nil {
		detail := &interlink.PodDetail{
			Phase: corev1.PodRunning, OriginCluster: clusterID, OriginNode: nodeName,
			Revision: m.pod.Annotations[interlink.AnnotationRevision],
		}
		if at, err := time.Parse(time.RFC3339, m.pod.Annotations[interlink.AnnotationRefreshAt]); err == nil {
			detail.RefreshAt = &metav1.Time{Time: at}
		}
		_ = handle(interlink.StatusEvent{Type: interlink.EventStatus, Status: &interlink.PodStatus{
			Name: m.pod.Name, Namespace: m.pod.Namespace, UID: string(m.pod.UID), JobID: "job", Detail: detail,
		}})
	}
	m.mu.Unlock()
	_ = handle(interlink.StatusEvent{Type: interlink.EventSynced})
	<-ctx.Done()
	return ctx.Err()
}

// current is what the far end holds.
func (m *memory) current() (token string, updates []time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.token, append([]time.Time(nil), m.updates...)
}

// TestTokenSchedule lets simulated hours pass.
func TestTokenSchedule(t *testing.T) {
	t.Parallel()
	const life = time.Hour
	// run starts a virtual kubelet and returns what stops it.
	run := func(t *testing.T, client *fake.Clientset, far *memory) func() {
		t.Helper()
		collector, err := bundle.New(bundle.Config{Client: client})
		require.NoError(t, err)
		node, err := provider.New(provider.Config{
			NodeName: nodeName, ClusterID: clusterID, Client: client, FarEnd: far, Bundler: collector,
			Recorder: record.NewFakeRecorder(1000), Workers: 2,
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- node.Run(ctx) }()
		node.Offer(interlink.PingResponse{Extensions: []interlink.Extension{
			interlink.ExtensionStatusStream, interlink.ExtensionReferences, interlink.ExtensionIdempotent, interlink.ExtensionUpdate,
		}})
		return func() {
			cancel()
			<-done
		}
	}
	world := func(t *testing.T) (*fake.Clientset, *memory) {
		t.Helper()
		h := &harness{t: t, client: fake.NewClientset()}
		h.tokens()
		ca := configMap("kube-root-ca.crt", "authority")
		ca.Namespace = "user"
		require.NoError(t, h.client.Tracker().Add(ca))
		require.NoError(t, h.client.Tracker().Add(newPod("a", withToken(int64(life/time.Second)))))
		return h.client, &memory{}
	}
	within := func(t *testing.T, begun, at time.Time) {
		t.Helper()
		assert.GreaterOrEqual(t, at.Sub(begun), life*7/10-time.Second)
		assert.LessOrEqual(t, at.Sub(begun), life*8/10, "before 80 % of the token's life")
	}

	t.Run("again and again", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			client, far := world(t)
			stop := run(t, client, far)
			defer stop()
			begun := time.Now()
			for n := 1; n <= 5; n++ {
				time.Sleep(time.Until(begun.Add(life * 85 / 100)))
				_, updates := far.current()
				require.Len(t, updates, n)
				within(t, begun, updates[n-1])
				begun = updates[n-1]
			}
		})
	})
	t.Run("a restart keeps the schedule", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			client, far := world(t)
			stop := run(t, client, far)
			begun := time.Now()
			time.Sleep(life / 2)
			first, _ := far.current()
			stop()
			stop = run(t, client, far)
			time.Sleep(time.Minute)
			token, updates := far.current()
			assert.Equal(t, first, token, "no token before it is time")
			require.Empty(t, updates)
			time.Sleep(time.Until(begun.Add(life * 85 / 100)))
			token, updates = far.current()
			require.Len(t, updates, 1)
			within(t, begun, updates[0])
			assert.NotEqual(t, first, token)
			stop()
			// What came due meanwhile is done at once.
			time.Sleep(2 * life)
			stop = run(t, client, far)
			defer stop()
			time.Sleep(time.Minute)
			_, updates = far.current()
			assert.Len(t, updates, 2)
		})
	})
	t.Run("a far end that is down is tried until it is back", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			client, far := world(t)
			stop := run(t, client, far)
			defer stop()
			time.Sleep(time.Minute)
			far.mu.Lock()
			far.fails = 8
			far.mu.Unlock()
			time.Sleep(life)
			token, updates := far.current()
			assert.Equal(t, "token-10", token, "each try has a token of its own, the last one arrives")
			assert.Len(t, updates, 9)
		})
	})
}
