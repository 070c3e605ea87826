// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/proc"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	authzAddress = "127.0.0.1:9643"
	asideAddress = "127.0.0.1:19643"
)

func (w *world) mt(name string) string { return filepath.Join(w.lab.Dir(), "mt", name) }

// aside starts a kube-mt-authz that the API server does not ask.
func (w *world) aside(t *testing.T, name, address string, args ...string) {
	t.Helper()
	ctx := t.Context()
	bin, err := labtest.Bin()
	require.NoError(t, err)
	process, err := w.lab.Start(ctx, proc.Spec{
		Name: name, Path: filepath.Join(bin, "kube-mt-authz"), Args: append([]string{"--config=" + w.mt("authz.yaml"), "--listen=" + address, "--ops-listen="}, args...),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = process.Kill() })
	eventually(t, name+" answers", func() bool {
		conn, err := network.Dial(ctx, w.lab.NetNS(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// asks is a client with the API server's certificate for its webhooks.
func (w *world) asks(t *testing.T) *http.Client {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(w.mt("apiserver-client.crt"), w.mt("apiserver-client.key"))
	require.NoError(t, err)
	ca, err := os.ReadFile(w.mt("ca.crt"))
	require.NoError(t, err)
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(ca)
	client := w.client(pair)
	client.Transport.(*http.Transport).TLSClientConfig.RootCAs = authorities
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// stands is a server in the place of kube-mt-authz until stopped.
func (w *world) stands(t *testing.T, certificate string, handler http.Handler) (stop func()) {
	t.Helper()
	listener, err := network.Listen(t.Context(), w.lab.NetNS(), "tcp", authzAddress)
	require.NoError(t, err)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: patience}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ServeTLS(listener, certificate+".crt", certificate+".key") }()
	return func() { _ = server.Close(); <-done }
}

// silent accepts connections and says nothing.
func (w *world) silent(t *testing.T) (stop func()) {
	t.Helper()
	listener, err := network.Listen(t.Context(), w.lab.NetNS(), "tcp", authzAddress)
	require.NoError(t, err)
	var mu sync.Mutex
	var connections []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			connections = append(connections, conn)
			mu.Unlock()
		}
	}()
	return func() {
		_ = listener.Close()
		<-done
		for _, conn := range connections {
			_ = conn.Close()
		}
	}
}

// says is a webhook that answers all questions the same.
func says(status string) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		out.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(out, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","status":`+status+`}`)
	})
}

func webhookFaults(t *testing.T, w *world) {
	w.aside(t, "kube-mt-authz-aside", asideAddress)
	require.NoError(t, w.kill("kube-mt-authz-1", "kube-mt-authz-2"))
	defer func() {
		require.NoError(t, w.start(context.WithoutCancel(t.Context()), "kube-mt-authz-1", "kube-mt-authz-2"))
		eventually(t, "all is well again", func() bool {
			got, err := w.alice.try(t.Context(), http.MethodGet, "v1/secrets/s-a", "")
			return err == nil && got.code == http.StatusOK
		})
	}()
	delayed := func(delay time.Duration) http.Handler {
		behind := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: asideAddress})
		behind.Transport = w.asks(t).Transport
		return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			late := time.NewTimer(delay)
			defer late.Stop()
			select {
			case <-late.C:
			case <-r.Context().Done():
				return
			}
			behind.ServeHTTP(out, r)
		})
	}
	for _, one := range []struct {
		name  string
		stand func() (stop func())
		// own is what the owner is told: his object, if the answer of the real webhook comes through.
		own bool
	}{
		{"down", func() func() { return func() {} }, false},
		{"slow", func() func() { return w.stands(t, w.mt("authz"), delayed(2900*time.Millisecond)) }, true},
		{"too slow", func() func() { return w.stands(t, w.mt("authz"), delayed(11*time.Second)) }, false},
		{"half-open", func() func() { return w.silent(t) }, false},
		{"wrong certificate", func() func() { return w.stands(t, w.file("oidc"), says(`{"allowed":true}`)) }, false},
		{"allow and deny", func() func() { return w.stands(t, w.mt("authz"), says(`{"allowed":true,"denied":true}`)) }, false},
		{"nonsense", func() func() {
			return w.stands(t, w.mt("authz"), http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, "<html>") }))
		}, false},
	} {
		t.Run(one.name, func(t *testing.T) {
			stop := one.stand()
			defer stop()
			w.underFault(t, one.own)
			if one.name == "down" {
				got := w.alice.do(t, http.MethodGet, "v1/secrets/s-a", "")
				assert.Contains(t, string(got.body), authzAddress+": connect: connection refused", "it says what is wrong")
				w.leasesGoOn(t)
			}
		})
	}
}

// underFault looks what comes through while the webhook is not well: nothing of tenants', and all of the control plane's.
func (w *world) underFault(t *testing.T, own bool) {
	t.Helper()
	began := time.Now()
	var requests sync.WaitGroup
	for _, path := range []string{"v1/secrets/s-b", "v1/secrets?labelSelector=" + w.bob.own(), "v1/pods/p-b/log", "/api/v1/secrets"} {
		requests.Go(func() {
			got := w.alice.do(t, http.MethodGet, path, "")
			assert.Contains(t, []int{http.StatusForbidden, http.StatusInternalServerError}, got.code, "%s: %s", path, got.body)
			assert.NotEqual(t, http.StatusOK, got.code)
		})
	}
	requests.Go(func() {
		got := w.alice.do(t, http.MethodGet, "v1/secrets/s-a", "")
		if own {
			assert.Equal(t, http.StatusOK, got.code, "%s", got.body)
			return
		}
		assert.Contains(t, []int{http.StatusForbidden, http.StatusInternalServerError}, got.code, "%s", got.body)
	})
	requests.Wait()
	assert.Less(t, time.Since(began), 30*time.Second, "tenants are told within a bounded time")
	w.controlPlaneWorks(t)
}

// controlPlaneWorks looks whether the administrator, nodes, controllers and the scheduler do their work.
func (w *world) controlPlaneWorks(t *testing.T) {
	t.Helper()
	w.root.gets(t, "v1/secrets/s-b")
	kubelet, err := w.component("system:node:"+aliceNode, "system:nodes")
	require.NoError(t, err)
	kubelet.gets(t, "/api/v1/nodes/"+aliceNode)
	name := unique("job")
	w.root.creates(t, "/apis/apps/v1/namespaces/default/deployments", "{metadata: {name: "+name+"}, spec: {replicas: 1, selector: {matchLabels: {a: "+name+
		"}}, template: {metadata: {labels: {a: "+name+"}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: a, image: '"+busybox+"', command: [sleep, infinity]}]}}}}")
	eventually(t, "a pod of the control plane's runs", func() bool {
		got := w.root.gets(t, "/apis/apps/v1/namespaces/default/deployments/"+name)
		status, _ := got.object.Object["status"].(map[string]any)
		return fmt.Sprint(status["readyReplicas"]) == "1"
	})
	w.root.removes(t, "/apis/apps/v1/namespaces/default/deployments/"+name)
}

// leasesGoOn waits until all nodes have said again that they are well.
func (w *world) leasesGoOn(t *testing.T) {
	t.Helper()
	versions := func() string {
		var all []string
		for _, lease := range w.root.gets(t, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases").items(t) {
			all = append(all, lease.GetName()+"="+lease.GetResourceVersion())
		}
		return strings.Join(all, " ")
	}
	before := strings.Fields(versions())
	require.NotEmpty(t, before)
	for _, lease := range before {
		eventually(t, "the node renews its lease", func() bool { return !strings.Contains(versions()+" ", lease+" ") })
	}
	for _, node := range w.root.gets(t, "/api/v1/nodes").items(t) {
		conditions, _, _ := unstructured.NestedSlice(node.Object, "status", "conditions")
		assert.True(t, slices.ContainsFunc(conditions, func(one any) bool {
			condition, _ := one.(map[string]any)
			return condition["type"] == "Ready" && condition["status"] == "True"
		}), "%s is Ready", node.GetName())
	}
}

// frozen passes connections to the API server on, until they are frozen: then nothing comes through, and nobody is told.
type frozen struct {
	mu sync.RWMutex // held for writing while all is frozen
}

func (f *frozen) serve(w *world, listener net.Listener) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		far, err := network.Dial(context.Background(), w.lab.NetNS(), "tcp", strings.TrimPrefix(w.direct, "https://"))
		if err != nil {
			_ = near.Close()
			continue
		}
		go f.copy(near, far)
		go f.copy(far, near)
	}
}

func (f *frozen) copy(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			_ = to.Close()
			return
		}
		f.mu.RLock()
		_, err = to.Write(buffer[:n])
		f.mu.RUnlock()
		if err != nil {
			_ = from.Close()
			return
		}
	}
}

// stalledWatches asks a kube-mt-authz of its own, whose connections to the API server freeze.
func stalledWatches(t *testing.T, w *world) {
	const through = "10.88.0.1:16443"
	listener, err := network.Listen(t.Context(), w.lab.NetNS(), "tcp", through)
	require.NoError(t, err)
	connections := &frozen{}
	done := make(chan struct{})
	go func() { defer close(done); connections.serve(w, listener) }()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	content, err := os.ReadFile(w.mt("authz-reader.kubeconfig"))
	require.NoError(t, err)
	kubeconfig := w.file("stalled.kubeconfig")
	changed := strings.ReplaceAll(string(content), strings.TrimPrefix(w.direct, "https://"), through)
	require.NotEqual(t, string(content), changed)
	require.NoError(t, os.WriteFile(kubeconfig, []byte(changed), 0o600))
	const address = "127.0.0.1:29643"
	w.aside(t, "kube-mt-authz-stalled", address, "--kubeconfig="+kubeconfig)
	client := w.asks(t)
	review := func(name string) (denied bool, reason string) {
		return w.review(t, client, "https://"+address+"/authorize", w.alice, name)
	}
	eventually(t, "it knows what is Alice's", func() bool { denied, _ := review("s-a"); return !denied })
	denied, reason := review("s-b")
	assert.True(t, denied, reason)

	connections.mu.Lock()
	name := unique("a67")
	w.becomesBobs(t, "v1/secrets", name)
	denied, _ = review(name)
	assert.True(t, denied, "what it has not heard of")
	began := time.Now()
	require.Eventually(t, func() bool { denied, reason = review("s-a"); return denied }, 100*time.Second, time.Second, "it knows that it hears nothing")
	t.Logf("all was denied after %s: %s", time.Since(began).Round(time.Second), reason)
	assert.Less(t, time.Since(began), 95*time.Second)
	connections.mu.Unlock()
	eventually(t, "it has caught up", func() bool { denied, _ := review("s-a"); return !denied })
	denied, _ = review(name)
	assert.True(t, denied)
}

// review asks a webhook whether somebody may read a Secret.
func (w *world) review(t *testing.T, client *http.Client, webhook string, who person, name string) (denied bool, reason string) {
	t.Helper()
	body, err := json.Marshal(object{"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": object{
		"user": who.name, "uid": who.id, "groups": []string{"osn:authenticated", "osn:project:" + who.project},
		"extra":              object{"osn.infn.it/userid": []string{who.id}, "osn.infn.it/projectid": []string{who.project}},
		"resourceAttributes": object{"namespace": cms, "verb": "get", "version": "v1", "resource": "secrets", "name": name},
	}})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, webhook, strings.NewReader(string(body)))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return true, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	var answered struct {
		Status struct {
			Denied bool
			Reason string
		}
	}
	if response.StatusCode != http.StatusOK {
		return true, response.Status
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answered))
	return answered.Status.Denied, answered.Status.Reason
}
