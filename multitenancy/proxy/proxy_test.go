// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"

	"github.com/cloudveneto/caas/multitenancy/proxy"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

func status(tb testing.TB, got result) metav1.Status {
	tb.Helper()
	var s metav1.Status
	require.NoError(tb, json.Unmarshal([]byte(got.body), &s), got.body)
	assert.Equal(tb, metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, s.TypeMeta)
	assert.Equal(tb, got.code, int(s.Code))
	assert.Equal(tb, "application/json", got.header.Get("Content-Type"))
	return s
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	f := newFront(t, b)
	subprotocol := func(token string) string {
		return "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io." + base64.RawURLEncoding.EncodeToString([]byte(token))
	}
	for name, test := range map[string]struct {
		headers []string
		passes  bool
	}{
		"none":            {nil, false},
		"bearer":          {[]string{"Authorization", "Bearer alice"}, true},
		"small letters":   {[]string{"Authorization", "bearer alice"}, true},
		"password":        {[]string{"Authorization", "Basic YTpi"}, false},
		"empty":           {[]string{"Authorization", "Bearer "}, false},
		"two":             {[]string{"Authorization", "Bearer alice", "Authorization", "Bearer bob"}, false},
		"huge":            {[]string{"Authorization", "Bearer " + strings.Repeat("x", 33<<10)}, false},
		"browser":         {[]string{"Sec-WebSocket-Protocol", subprotocol("alice")}, true},
		"browser's lines": {[]string{"Sec-WebSocket-Protocol", subprotocol("alice\r\nX: y")}, false},
		"browser's none":  {[]string{"Sec-WebSocket-Protocol", "v4.channel.k8s.io"}, false},
		"browser's two":   {[]string{"Sec-WebSocket-Protocol", subprotocol("alice") + "," + subprotocol("bob")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := f.do(t, "", http.MethodGet, core+"pods", "", test.headers...)
			if !test.passes {
				assert.Equal(t, metav1.StatusReasonUnauthorized, status(t, got).Reason)
				assert.Contains(t, got.body, "Client certificates and passwords cannot be passed on")
				return
			}
			require.Equal(t, http.StatusOK, got.code, got.body)
			passed, _ := b.seen()
			assert.Equal(t, mine, passed.URL.Query().Get("labelSelector"))
		})
	}
	got := f.do(t, "", http.MethodGet, "/readyz?verbose", "")
	assert.Equal(t, "passed", got.body, "load balancers have no token")
	passed, _ := b.seen()
	assert.Empty(t, passed.URL.RawQuery)
	assert.Empty(t, passed.Header.Get("Authorization"))
	assert.Equal(t, http.StatusUnauthorized, f.do(t, "", http.MethodGet, "/readyz/etcd", "").code)
	f.do(t, "admin", http.MethodGet, "/readyz?verbose", "")
	passed, _ = b.seen()
	assert.Equal(t, "verbose", passed.URL.RawQuery)
	assert.Equal(t, http.StatusNotFound, f.do(t, "alice", http.MethodGet, "/mt/v2/x", "").code)
	assert.Equal(t, http.StatusNotFound, f.do(t, "alice", http.MethodDelete, proxy.PathWhoAmI, "").code)
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	f := newFront(t, b)
	f.do(t, "alice", http.MethodPost, core+"pods?dryRun=All", "a body", "X-Remote-User", "admin", "X-Remote-Group", "system:masters",
		"X-Forwarded-For", "203.0.113.7", "Accept", "application/vnd.kubernetes.protobuf", "Accept-Encoding", "gzip", "User-Agent", "kubectl/x",
		"Content-Type", "application/cbor", "Kubectl-Command", "kubectl apply")
	passed, body := b.seen()
	assert.Equal(t, "a body", body)
	for name, want := range map[string]string{
		"X-Remote-User": "", "X-Remote-Group": "", "X-Forwarded-For": "127.0.0.1", "Accept": "application/vnd.kubernetes.protobuf",
		"Accept-Encoding": "gzip", "User-Agent": "kubectl/x", "Content-Type": "application/cbor", "Kubectl-Command": "kubectl apply",
	} {
		assert.Equal(t, want, passed.Header.Get(name), name)
	}
}

// formats are the API server's.
func formats(tb testing.TB) map[string]runtime.Serializer {
	tb.Helper()
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	all := map[string]runtime.Serializer{}
	for _, info := range serializer.NewCodecFactory(scheme, serializer.WithSerializer(cbor.NewSerializerInfo)).SupportedMediaTypes() {
		all[info.MediaType] = info.Serializer
	}
	require.Len(tb, all, 4)
	return all
}

func forbidden(reason string) *metav1.Status {
	s := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", fmt.Errorf("User %q cannot: %s", "alice", reason)).ErrStatus
	s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	return &s
}

func TestHidden(t *testing.T) {
	t.Parallel()
	for media, format := range formats(t) {
		b := newBackend(t)
		f := newFront(t, b)
		var body bytes.Buffer
		require.NoError(t, format.Encode(forbidden("mt: not found or not yours"), &body))
		b.setAnswer(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(body.Bytes())
		})
		for name, test := range map[string]struct {
			method, path, content string
			code                  int
		}{
			"get":      {http.MethodGet, core + "pods/x", "", http.StatusNotFound},
			"delete":   {http.MethodDelete, "/apis/apps/v1/namespaces/cms/deployments/x", "", http.StatusNotFound},
			"log":      {http.MethodGet, core + "pods/x/log", "", http.StatusNotFound},
			"exec":     {http.MethodPost, core + "pods/x/exec", "", http.StatusNotFound},
			"patch":    {http.MethodPatch, core + "pods/x", "application/merge-patch+json", http.StatusNotFound},
			"node":     {http.MethodGet, "/api/v1/nodes/x", "", http.StatusNotFound},
			"apply":    {http.MethodPatch, core + "pods/x", "application/apply-patch+yaml", http.StatusForbidden},
			"applying": {http.MethodPatch, core + "pods/x", "application/apply-patch+cbor", http.StatusForbidden},
			"create":   {http.MethodPost, core + "pods", "", http.StatusForbidden},
			"list":     {http.MethodGet, core + "pods?fieldSelector=metadata.name%3Dx", "", http.StatusForbidden},
			"no one":   {http.MethodGet, "/version", "", http.StatusForbidden},
		} {
			got := f.do(t, "alice", test.method, test.path, "", "Content-Type", test.content)
			require.Equal(t, test.code, got.code, "%s %s", name, media)
			assert.Equal(t, media, got.header.Get("Content-Type"))
			decoded, _, err := format.Decode([]byte(got.body), nil, nil)
			require.NoError(t, err)
			said, _ := decoded.(*metav1.Status)
			if test.code == http.StatusForbidden {
				assert.Equal(t, body.String(), got.body)
				continue
			}
			assert.Equal(t, metav1.StatusReasonNotFound, said.Reason)
			assert.Equal(t, "x", said.Details.Name)
			assert.Regexp(t, `^(pods|deployments.apps|nodes) "x" not found$`, said.Message)
		}
	}
}

func TestNotHidden(t *testing.T) {
	t.Parallel()
	text := func(status *metav1.Status) string {
		content, err := json.Marshal(status)
		require.NoError(t, err)
		return string(content)
	}
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	_, err := io.WriteString(writer, text(forbidden("mt: not found or not yours")))
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	for name, test := range map[string]struct{ content, encoding, body string }{
		"another reason":     {"application/json", "", text(forbidden("mt: this verb is not for tenants"))},
		"RBAC":               {"application/json", "", text(forbidden(""))},
		"in the middle":      {"application/json", "", text(forbidden("mt: not found or not yours, or so"))},
		"no status":          {"application/json", "", `{"message":"mt: not found or not yours"}`},
		"another kind":       {"application/json", "", `{"kind":"Pod","apiVersion":"v1","message":"mt: not found or not yours"}`},
		"of a pod":           {"text/html", "", "mt: not found or not yours"},
		"of nothing":         {"", "", ""},
		"cut":                {"application/json", "", text(forbidden("mt: not found or not yours"))[:100]},
		"compressed":         {"application/json", "gzip", packed.String()},
		"huge":               {"application/json", "", text(forbidden(strings.Repeat("x", 200<<10) + "mt: not found or not yours"))},
		"malformed protobuf": {"application/vnd.kubernetes.protobuf", "", "k8s\x00\xff\xff\xff"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			b.setAnswer(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{test.content}
				if test.encoding != "" {
					w.Header().Set("Content-Encoding", test.encoding)
				}
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, test.body)
			})
			got := newFront(t, b).do(t, "alice", http.MethodGet, core+"pods/x", "")
			assert.Equal(t, http.StatusForbidden, got.code)
			assert.Equal(t, test.body, got.body)
		})
	}
}

func TestCallersAreRemembered(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	f := newFront(t, b, func(c *proxy.Config) { c.Limits = proxy.Limits{Callers: 2, CallerTTL: time.Hour} })
	list := func(token string) { f.do(t, token, http.MethodGet, core+"pods", "") }
	for range 5 {
		list("alice")
	}
	assert.EqualValues(t, 1, b.reviews.Load())
	list("bob")
	list("carol") // of whom there is no room beside the two before
	list("alice")
	assert.EqualValues(t, 4, b.reviews.Load())
	f.do(t, "alice", http.MethodGet, core+"pods/x", "")
	f.do(t, "nobody", http.MethodGet, core+"pods/x", "")
	assert.EqualValues(t, 4, b.reviews.Load(), "nobody is asked about requests that need no selector")
	list("nobody")
	list("nobody")
	assert.EqualValues(t, 6, b.reviews.Load(), "no is not remembered: the next answer may be another one")
	text := f.metrics(t)
	for _, line := range []string{
		`caas_proxy_callers_total{result="known"} 4`, `caas_proxy_callers_total{result="asked"} 4`, `caas_proxy_callers_total{result="refused"} 2`,
		`caas_proxy_requests_total{code="200",selector="added",verb="list"} 8`, `caas_proxy_requests_total{code="200",selector="none",verb="get"} 2`,
	} {
		assert.Contains(t, text, line)
	}
}

func TestCallersAreForgotten(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	f := newFront(t, b, func(c *proxy.Config) { c.Limits = proxy.Limits{CallerTTL: time.Nanosecond} })
	for range 3 {
		f.do(t, "alice", http.MethodGet, core+"pods", "")
	}
	assert.EqualValues(t, 3, b.reviews.Load())
}

func TestServerCannotSay(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		code   int
		again  string
	}{
		"busy":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, http.StatusTooManyRequests, "1"},
		"broken":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, http.StatusServiceUnavailable, "1"},
		"no review": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, http.StatusServiceUnavailable, "1"},
		"refused":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, http.StatusOK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			b.review.Store(&test.answer)
			f := newFront(t, b)
			got := f.do(t, "alice", http.MethodGet, core+"pods", "")
			assert.Equal(t, test.code, got.code, got.body)
			assert.Equal(t, test.again, got.header.Get("Retry-After"))
			if test.code != http.StatusOK {
				status(t, got)
				assert.Equal(t, test.code, f.do(t, "alice", http.MethodGet, proxy.PathWhoAmI, "").code)
			}
		})
	}
}

func TestServerAway(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	f := newFront(t, b)
	b.Close()
	for _, path := range []string{core + "pods", core + "pods/x", proxy.PathWhoAmI} {
		got := f.do(t, "alice", http.MethodGet, path, "")
		assert.Equal(t, metav1.StatusReasonServiceUnavailable, status(t, got).Reason, path)
		assert.Equal(t, "1", got.header.Get("Retry-After"), path)
	}
}

func TestServerBreaksOff(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.setAnswer(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler) //nolint:forbidigo // cuts the connection
	})
	got := newFront(t, b).do(t, "alice", http.MethodPost, core+"pods", "{}")
	assert.Contains(t, status(t, got).Message, "whether it did what was asked is not known")
	assert.Empty(t, got.header.Get("Retry-After"), "trying again could do it twice")
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	f := newFront(t, b)
	body := strings.Repeat("x", 9<<20)
	got := f.do(t, "alice", http.MethodPost, core+"pods", body)
	assert.Equal(t, http.StatusRequestEntityTooLarge, got.code)
	assert.Equal(t, metav1.StatusReasonRequestEntityTooLarge, status(t, got).Reason)
	got = f.do(t, "alice", http.MethodPost, core+"pods/x/proxy/upload", body)
	assert.Equal(t, http.StatusOK, got.code)
	_, sent := b.seen()
	assert.Equal(t, body, sent, "what goes to pods has no limit")
}

// TestUsersAreNotMixed has many users list at once; each has to be given the selector of his own.
func TestUsersAreNotMixed(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.setAnswer(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Authorization")+"|"+r.URL.Query().Get("labelSelector"))
	})
	f := newFront(t, b, func(c *proxy.Config) { c.Limits = proxy.Limits{CallerTTL: time.Millisecond, Callers: 2} })
	var users sync.WaitGroup
	for at := range 16 {
		token := []string{"alice", "bob", "carol", "robot"}[at%4]
		owner := map[string]string{"alice": alice, "bob": bob, "carol": "ca401000000000000000000000000000", "robot": alice}[token]
		users.Go(func() {
			for range 100 {
				got := f.do(t, token, http.MethodGet, core+"pods", "")
				assert.Equal(t, "Bearer "+token+"|osn.infn.it/userid in ("+owner+")", got.body)
			}
		})
	}
	users.Wait()
}

func TestSingleQuestion(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	release := make(chan struct{})
	review := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		writeReview(w, people()["alice"])
	})
	b.review.Store(&review)
	f := newFront(t, b)
	var users sync.WaitGroup
	for range 20 {
		users.Go(func() { assert.Equal(t, http.StatusOK, f.do(t, "alice", http.MethodGet, core+"pods", "").code) })
	}
	require.Eventually(t, func() bool { return b.reviews.Load() > 0 }, 10*time.Second, time.Millisecond)
	time.Sleep(50 * time.Millisecond) // so that the others come, too
	close(release)
	users.Wait()
	assert.EqualValues(t, 1, b.reviews.Load())
}

func TestNew(t *testing.T) {
	t.Parallel()
	at := func(text string) *url.URL {
		address, err := url.Parse(text)
		require.NoError(t, err)
		return address
	}
	good := proxy.Config{Server: at("https://api.example.org:6443"), Transport: proxy.NewTransport(nil), Policy: tenant.DefaultPolicy()}
	for name, test := range map[string]struct {
		change func(*proxy.Config)
		want   string
	}{
		"good":         {func(*proxy.Config) {}, ""},
		"no server":    {func(c *proxy.Config) { c.Server = nil }, "server is required"},
		"path":         {func(c *proxy.Config) { c.Server = at("https://api.example.org/clusters/x") }, "without a path"},
		"no transport": {func(c *proxy.Config) { c.Transport = nil }, "transport is required"},
		"bad policy":   {func(c *proxy.Config) { c.Policy.Resources = []tenant.Rule{{Class: "mine"}} }, "class"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := good
			test.change(&config)
			_, err := proxy.New(config)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
		})
	}
}
