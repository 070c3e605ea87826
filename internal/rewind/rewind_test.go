// SPDX-License-Identifier: Apache-2.0

package rewind_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/rewind"
)

// cluster answers lists and watches of pods, and can be set back.
type cluster struct {
	mu       sync.Mutex
	version  int
	pods     []string
	requests []string
	cut      chan struct{}
	absent   bool
}

// away has nobody answer.
func (c *cluster) away(absent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent = absent
}

func (c *cluster) watches() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, one := range c.requests {
		if strings.Contains(one, "watch=true") && !strings.Contains(one, "sendInitialEvents") {
			n++
		}
	}
	return n
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	c.mu.Lock()
	c.requests = append(c.requests, r.Method+" "+r.URL.RawQuery)
	version, pods, cut, absent := c.version, c.pods, c.cut, c.absent
	c.mu.Unlock()
	if absent {
		if connection, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = connection.Close()
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case query.Get("sendInitialEvents") == "true":
		http.Error(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`, http.StatusUnprocessableEntity)
	case query.Get("watch") != "":
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select { // like a watch from a version that is still to come, it never says anything
		case <-cut:
		case <-r.Context().Done():
		}
	default:
		items := ""
		for i, name := range pods {
			if i > 0 {
				items += ","
			}
			items += fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"x","uid":%q}}`, name, name)
		}
		_, _ = fmt.Fprintf(w, `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"%d"},"items":[%s]}`, version, items)
	}
}

// set changes the cluster and ends all watches, as a restart of its API server does.
func (c *cluster) set(version int, pods ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version, c.pods = version, pods
	close(c.cut)
	c.cut = make(chan struct{})
}

func (c *cluster) count(request string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, one := range c.requests {
		if one == request {
			n++
		}
	}
	return n
}

func serve(t *testing.T, c *cluster) *rest.Config {
	t.Helper()
	c.cut = make(chan struct{})
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL}
	config.Wrap(rewind.Transport)
	return config
}

func TestInformerSeesAClusterGoBack(t *testing.T) {
	t.Parallel()
	c := &cluster{version: 5000, pods: []string{"old", "new"}}
	client, err := kubernetes.NewForConfig(serve(t, c))
	require.NoError(t, err)
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods()
	informer := pods.Informer()
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	// Between the question and the watch no cluster can be replaced: whoever asks has a connection to it.
	require.Eventually(t, func() bool { return informer.HasSynced() && c.watches() > 0 }, 20*time.Second, 10*time.Millisecond)
	c.set(100, "old")
	assert.Eventually(t, func() bool { return len(informer.GetStore().List()) == 1 }, 20*time.Second, 10*time.Millisecond)
}

// A cluster that went back may have caught up with the watch's version before it is asked.
func TestInformerReadsAnewAfterAnOutage(t *testing.T) {
	t.Parallel()
	c := &cluster{version: 5000, pods: []string{"old", "new"}}
	client, err := kubernetes.NewForConfig(serve(t, c))
	require.NoError(t, err)
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Core().V1().Pods().Informer()
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	require.Eventually(t, informer.HasSynced, 20*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return c.watches() > 0 }, 20*time.Second, 10*time.Millisecond)
	c.away(true)
	c.set(9000, "old")
	require.Eventually(t, func() bool {
		_, err := client.CoreV1().Pods("x").List(t.Context(), metav1.ListOptions{})
		return err != nil
	}, 20*time.Second, 10*time.Millisecond)
	c.away(false)
	assert.Eventually(t, func() bool { return len(informer.GetStore().List()) == 1 }, 60*time.Second, 10*time.Millisecond)
}

func TestWatchGoesOn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		version int
		from    string
		code    int
		asked   int
	}{
		"the same version":    {100, "100", http.StatusOK, 1},
		"an earlier version":  {100, "7", http.StatusOK, 1},
		"a later version":     {100, "101", http.StatusGone, 1},
		"no version":          {100, "", http.StatusOK, 0},
		"any version":         {100, "0", http.StatusOK, 0},
		"no number":           {100, "abc", http.StatusOK, 0},
		"the server is older": {0, "101", http.StatusOK, 1},
	} {
		c := &cluster{version: test.version}
		transport, err := rest.TransportFor(serve(t, c))
		require.NoError(t, err)
		server := httptest.NewServer(c)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/v1/pods?labelSelector=a%3Db&watch=true&timeoutSeconds=9&resourceVersion="+test.from, nil)
		require.NoError(t, err)
		answer, err := transport.RoundTrip(request)
		require.NoError(t, err, name)
		assert.Equal(t, test.code, answer.StatusCode, name)
		assert.Equal(t, test.asked, c.count("GET labelSelector=a%3Db&limit=1"), "%s: with the watch's own selector", name)
		require.NoError(t, answer.Body.Close())
		server.CloseClientConnections()
		server.Close()
	}
}

func TestOthersPass(t *testing.T) {
	t.Parallel()
	c := &cluster{version: 1, pods: []string{"a"}}
	client, err := kubernetes.NewForConfig(serve(t, c))
	require.NoError(t, err)
	list, err := client.CoreV1().Pods("x").List(t.Context(), metav1.ListOptions{ResourceVersion: "50"})
	require.NoError(t, err)
	assert.Len(t, list.Items, 1)
	_, err = client.CoreV1().Pods("x").Create(t.Context(), &corev1.Pod{}, metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Len(t, c.requests, 2)
}

// tripper is a transport in a function.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// A reflector that failed would wait for longer each time, up to half a minute.
func TestReadsAnewAsSoonAsTheClusterIsBack(t *testing.T) {
	t.Parallel()
	ask := func(ctx context.Context, transport http.RoundTripper, query string) (int, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://cluster.example/api/v1/pods?"+query, nil)
		require.NoError(t, err)
		answer, err := transport.RoundTrip(request)
		if err != nil {
			return 0, err
		}
		return answer.StatusCode, answer.Body.Close()
	}
	const reads = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		const lasts = 10 * time.Minute
		asked := 0
		transport := rewind.Transport(tripper(func(request *http.Request) (*http.Response, error) {
			asked++
			switch past := time.Since(began); {
			case past < lasts/2:
				return nil, errors.New("connection refused")
			case past < lasts:
				return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody, Request: request}, nil
			}
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: request}, nil
		}))
		_, err := ask(t.Context(), transport, "limit=500")
		require.Error(t, err, "what is no reflector's is told at once")
		require.Equal(t, 1, asked)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = ask(ctx, transport, reads)
		require.Error(t, err)
		assert.Equal(t, time.Minute, time.Since(began), "it ends with whoever waits for it")

		code, err := ask(t.Context(), transport, reads)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, code)
		assert.Less(t, time.Since(began)-lasts, 2*time.Second)
	})
}
