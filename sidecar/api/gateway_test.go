// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/api"
)

const (
	fixtures = "../../internal/interlink/testdata"
	sleepUID = "6f1f4a52-9c5e-4a0e-8f0d-5b1c7f3f2a01"
	otherUID = "6f1f4a52-9c5e-4a0e-8f0d-5b1c7f3f2a02"
)

// pluginDouble is a plugin that records what it gets and answers as told.
type pluginDouble struct {
	*httptest.Server

	mu       sync.Mutex
	requests []interlinktest.Request
	answer   http.HandlerFunc
	ping     string
}

func newPluginDouble(t *testing.T, answer http.HandlerFunc) *pluginDouble {
	t.Helper()
	p := &pluginDouble{answer: answer, ping: "[]"}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *pluginDouble) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "cut", http.StatusBadRequest)
		return
	}
	isPing := r.URL.Path == interlink.PathStatus && string(body) == "[]"
	p.mu.Lock()
	ping := p.ping
	p.requests = append(p.requests, interlinktest.Request{Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone(), Body: body})
	p.mu.Unlock()
	if isPing && ping != "" {
		_, _ = io.WriteString(w, ping)
		return
	}
	p.answer(w, r.WithContext(context.WithValue(r.Context(), bodyKey{}, string(body))))
}

type bodyKey struct{}

// recordedBody is the body of a request that the double has read already.
func recordedBody(r *http.Request) string {
	body, _ := r.Context().Value(bodyKey{}).(string)
	return body
}

// recorded returns the requests so far but pings.
func (p *pluginDouble) recorded() []interlinktest.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	var requests []interlinktest.Request
	for _, request := range p.requests {
		if string(request.Body) != "[]" {
			requests = append(requests, request)
		}
	}
	return requests
}

func (p *pluginDouble) says(ping string) *pluginDouble {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ping = ping
	return p
}

func text(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }
}

// serve runs a gateway on a real server and returns its URL.
func serve(t *testing.T, cfg api.Config) string {
	t.Helper()
	gateway, err := api.New(cfg)
	require.NoError(t, err)
	t.Cleanup(gateway.Close)
	return serveHandler(t, gateway.Handler(), httpserver.Config{MaxBody: cfg.Limits.MaxBody})
}

func serveHandler(t *testing.T, handler http.Handler, cfg httpserver.Config) string {
	t.Helper()
	cfg.Address, cfg.Handler = "127.0.0.1:0", handler
	server, err := httpserver.New(cfg)
	require.NoError(t, err)
	logger, err := logging.New(testLog{t}, logging.Options{Level: "debug", Format: "text"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(logging.Into(t.Context(), logger))
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
	scheme := "http://"
	if cfg.TLS != nil {
		scheme = "https://"
	}
	return scheme + server.Addr().String()
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if os.Getenv("TEST_LOG") != "" {
		l.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

type answered struct {
	code   int
	header http.Header
	body   string
}

func do(t *testing.T, request *http.Request) answered {
	t.Helper()
	answer, err := plain.Do(request)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answered{answer.StatusCode, answer.Header, string(body)}
}

func send(t *testing.T, method, url, body string) answered {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	return do(t, request)
}

// TestReplay sends what virtual kubelets send, and compares what the plugin gets
// with what upstream's API server would send it.
func TestReplay(t *testing.T) {
	t.Parallel()
	created := string(interlinktest.Answer(t, fixtures+"/answers", "created"))
	statuses := string(interlinktest.Answer(t, fixtures+"/answers", "statuses"))
	for name, test := range map[string]struct {
		send, want string
		form       api.CreateForm
		answer     string
		body       string
		content    string
	}{
		"create":                  {send: "create-minimal", want: "create-minimal", answer: created, body: created, content: "application/json"},
		"create, plugin of 0.4":   {send: "create-minimal", want: "create-minimal-array", form: api.CreateArray, answer: created, body: created, content: "application/json"},
		"create with all volumes": {send: "create-full", want: "create-full", answer: created, body: created, content: "application/json"},
		"create with claims":      {send: "create-claims", want: "create-claims", answer: created, body: created, content: "application/json"},
		"create of 0.3":           {send: "create-0.3", want: "create-0.3", answer: created, body: created, content: "application/json"},
		"status of one":           {send: "status-one", want: "status-one", answer: "null", body: "[]", content: "application/json"},
		"status of two":           {send: "status-two", want: "status-two", answer: statuses, body: statuses, content: "application/json"},
		"delete":                  {send: "delete", want: "delete", answer: "done", body: "done", content: "text/plain; charset=utf-8"},
		"logs":                    {send: "logs", want: "logs", answer: "a\nb\n", body: "a\nb\n", content: "text/plain; charset=utf-8"},
		"logs followed":           {send: "logs-follow-since", want: "logs-follow-since", answer: "a\n", body: "a\n", content: "text/plain; charset=utf-8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plugin := newPluginDouble(t, text(test.answer))
			base := serve(t, api.Config{PluginURL: plugin.URL, CreateForm: test.form})
			sent := interlinktest.Requests(t, fixtures+"/vk")[test.send]
			for _, method := range []string{sent.Method, http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
				sent.Method = method
				answer := do(t, sent.New(t, base))
				require.Equal(t, http.StatusOK, answer.code, answer.body)
				assert.Equal(t, test.content, answer.header.Get("Content-Type"))
				if strings.HasPrefix(test.body, "[") {
					assert.Equal(t, interlinktest.Canonical(t, []byte(test.body)), interlinktest.Canonical(t, []byte(answer.body)))
				} else {
					assert.Equal(t, test.body, answer.body)
				}
			}
			want := interlinktest.Requests(t, fixtures+"/plugin")[test.want]
			got := plugin.recorded()[0]
			assert.Equal(t, want.Method, got.Method)
			assert.Equal(t, want.Path, got.Path)
			assert.Equal(t, interlinktest.Canonical(t, want.Body), interlinktest.Canonical(t, got.Body))
			assert.Equal(t, "application/json", got.Header.Get("Content-Type"))
			assert.Empty(t, got.Header.Get("Authorization"))
			assert.Empty(t, got.Header.Get("Idempotency-Key"))
			if session := want.Header.Get(interlink.HeaderSession); session != "" {
				assert.Equal(t, session, got.Header.Get(interlink.HeaderSession))
			} else {
				assert.Regexp(t, `^Request-[0-9a-f-]{36}$`, got.Header.Get(interlink.HeaderSession))
			}
		})
	}
}

func TestChunkedRequestsWithoutContentType(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text(string(interlinktest.Answer(t, fixtures+"/answers", "created"))))
	base := serve(t, api.Config{PluginURL: plugin.URL})
	sent := interlinktest.Requests(t, fixtures+"/vk")["create-minimal"]
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/create", io.MultiReader(strings.NewReader(string(sent.Body))))
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, do(t, request).code)
	require.Len(t, plugin.recorded(), 1)
}

func TestUnknownFieldsOfThePodPassThrough(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text(`{}`))
	base := serve(t, api.Config{PluginURL: plugin.URL})
	answer := send(t, http.MethodPost, base+"/create", `{"pod":{"metadata":{"uid":"u"},"spec":{"fieldOfTheFuture":{"a":[1]}}},"configmaps":null}`)
	require.Equal(t, http.StatusOK, answer.code, answer.body)
	assert.Contains(t, string(plugin.recorded()[0].Body), `"fieldOfTheFuture":{"a":[1]}`)
}

func TestPing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ plugin, want, content string }{
		"list":                     {`[]`, `[]`, "application/json"},
		"text":                     {`I am alive`, `I am alive`, "text/plain; charset=utf-8"},
		"nothing":                  {` `, ` `, "text/plain; charset=utf-8"},
		"upstream's":               {`{"status": "ok",  "taints":[]}`, `{"status": "ok",  "taints":[]}`, "application/json"},
		"extensions":               {`{"status":"ok","pluginExtensions":["idempotent/v1","of-the-future/v9"]}`, `{"extensions":["idempotent/v1"],"status":"ok"}`, "application/json"},
		"extensions unknown":       {`{"pluginExtensions":["x/v1"]}`, `{"extensions":[]}`, "application/json"},
		"claim that is not theirs": {`{"extensions":["status-stream/v1"]}`, `{}`, "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plugin := newPluginDouble(t, text("unused")).says(test.plugin)
			base := serve(t, api.Config{PluginURL: plugin.URL})
			for _, kind := range []string{"ping", "ping-empty-token"} {
				answer := do(t, interlinktest.Requests(t, fixtures+"/vk")[kind].New(t, base))
				assert.Equal(t, http.StatusOK, answer.code)
				assert.Equal(t, test.want, answer.body)
				assert.Equal(t, test.content, answer.header.Get("Content-Type"))
			}
			want := interlinktest.Requests(t, fixtures+"/plugin")["ping"]
			assert.Equal(t, want.Method, plugin.requests[0].Method)
			assert.Equal(t, want.Path, plugin.requests[0].Path)
			assert.Equal(t, want.Body, plugin.requests[0].Body)
			assert.Equal(t, want.Header.Get(interlink.HeaderSession), plugin.requests[0].Header.Get(interlink.HeaderSession))
		})
	}
}

func TestPluginErrorsArePassedOn(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10000)
	for name, test := range map[string]struct {
		code    int
		text    string
		refused bool
		want    string
	}{
		"server error":      {http.StatusInternalServerError, "database is gone\n", false, "database is gone\n"},
		"refused for good":  {http.StatusUnprocessableEntity, "spec.hostNetwork is not allowed", true, "spec.hostNetwork is not allowed\n"},
		"created is none":   {http.StatusCreated, `{"PodUID":"u"}`, false, "{\"PodUID\":\"u\"}\n"},
		"redirect":          {http.StatusFound, "", false, "the interLink plugin answered 302 Found\n"},
		"without a reason":  {http.StatusBadGateway, "", false, "the interLink plugin answered 502 Bad Gateway\n"},
		"very long a story": {http.StatusInternalServerError, long, false, long[:4096] + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plugin := newPluginDouble(t, func(w http.ResponseWriter, _ *http.Request) {
				if test.refused {
					w.Header().Set(interlink.HeaderRefusal, "true")
				}
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(test.code)
				_, _ = io.WriteString(w, test.text)
			}).says("[]")
			base := serve(t, api.Config{PluginURL: plugin.URL})
			for _, request := range []string{"create-minimal", "status-one", "delete", "logs"} {
				answer := do(t, interlinktest.Requests(t, fixtures+"/vk")[request].New(t, base))
				assert.Equal(t, test.code, answer.code, request)
				assert.Equal(t, test.want, answer.body, request)
				assert.Equal(t, test.refused, answer.header.Get(interlink.HeaderRefusal) == "true", request)
			}
		})
	}
}

func TestUnreachablePlugin(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text(""))
	plugin.Close()
	base := serve(t, api.Config{PluginURL: plugin.URL})
	for _, request := range []string{"ping", "create-minimal", "status-one", "delete", "logs"} {
		answer := do(t, interlinktest.Requests(t, fixtures+"/vk")[request].New(t, base))
		assert.Equal(t, http.StatusInternalServerError, answer.code, request)
		assert.Equal(t, "the interLink plugin cannot be reached\n", answer.body, request)
	}
	answer := send(t, http.MethodGet, base+interlink.PathWatch, "")
	assert.Equal(t, http.StatusInternalServerError, answer.code, "nobody knows whether it has a stream")
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text("[]"))
	base := serve(t, api.Config{PluginURL: plugin.URL})
	logs := func(fields string) string {
		return `{"Namespace":"default","PodUID":"` + sleepUID + `","PodName":"p","ContainerName":"main",` + fields + `}`
	}
	for name, test := range map[string]struct {
		path, body string
		code       int
		want       string
	}{
		"unknown path":            {"/version", "", http.StatusNotFound, "404 page not found"},
		"create empty":            {"/create", "", http.StatusBadRequest, "no valid JSON"},
		"create cut":              {"/create", `{"pod":{"metadata"`, http.StatusBadRequest, "JSON syntax error at byte 18"},
		"create null":             {"/create", `null`, http.StatusBadRequest, "no valid pod"},
		"create other type":       {"/create", `{"configmaps":{"secret":"hush"}}`, http.StatusBadRequest, `field "configmaps" must not be a JSON object`},
		"create array":            {"/create", `[]`, http.StatusBadRequest, "must not be a JSON array"},
		"create without UID":      {"/create", `{"pod":{"metadata":{"name":"x"}}}`, http.StatusBadRequest, "metadata.uid"},
		"create pod is text":      {"/create", `{"pod":"x"}`, http.StatusBadRequest, "no valid pod"},
		"create foreign builder":  {"/create", `{"pod":{"metadata":{"uid":"u"}},"jobscriptURL":"http://169.254.169.254/"}`, http.StatusBadRequest, "JobScriptURLs"},
		"status no JSON":          {"/status", `{{`, http.StatusBadRequest, "no list of pods"},
		"status object":           {"/status", `{}`, http.StatusBadRequest, "no list of pods"},
		"status without UID":      {"/status", `[{}]`, http.StatusBadRequest, "metadata.uid"},
		"delete no JSON":          {"/delete", `{"metadata"`, http.StatusBadRequest, "no pod"},
		"delete null":             {"/delete", `null`, http.StatusBadRequest, "metadata.uid"},
		"delete empty":            {"/delete", ``, http.StatusBadRequest, "no valid JSON"},
		"logs no JSON":            {"/getLogs", `x`, http.StatusBadRequest, "invalid request body"},
		"logs bad namespace":      {"/getLogs", `{"Namespace":"a/b","PodUID":"` + sleepUID + `"}`, http.StatusBadRequest, "Namespace"},
		"logs no namespace":       {"/getLogs", `{"PodUID":"` + sleepUID + `"}`, http.StatusBadRequest, "Namespace"},
		"logs static pod":         {"/getLogs", `{"Namespace":"a","PodUID":"0123456789abcdef0123456789abcdef"}`, http.StatusBadRequest, "PodUID"},
		"logs upper-case UID":     {"/getLogs", `{"Namespace":"a","PodUID":"` + strings.ToUpper(sleepUID) + `"}`, http.StatusBadRequest, "PodUID"},
		"logs bad container":      {"/getLogs", `{"Namespace":"a","PodUID":"` + sleepUID + `","ContainerName":"A B"}`, http.StatusBadRequest, "ContainerName"},
		"logs tail and bytes":     {"/getLogs", logs(`"Opts":{"Tail":1,"Bytes":1}`), http.StatusBadRequest, "Tail and Bytes"},
		"logs two sinces":         {"/getLogs", logs(`"Opts":{"SinceSeconds":1,"SinceTime":"2026-01-01T00:00:00Z"}`), http.StatusBadRequest, "SinceSeconds and SinceTime"},
		"watch not offered":       {"/caas/v1/statuses", "", http.StatusNotFound, "does not offer"},
		"extension without offer": {"/caas/v1/exec", "", http.StatusNotFound, "does not offer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := send(t, http.MethodPost, base+test.path, test.body)
			assert.Equal(t, test.code, answer.code)
			assert.Contains(t, answer.body, test.want)
			assert.NotContains(t, answer.body, "hush", "values may be secrets")
		})
	}
	t.Cleanup(func() { assert.Empty(t, plugin.recorded()) })
	answer := send(t, http.MethodPatch, base+"/create", "{}")
	assert.Equal(t, http.StatusMethodNotAllowed, answer.code)
}

func TestTailAndBytesTogetherWithOurPlugin(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text("line\n")).says(`{"pluginExtensions":["idempotent/v1"]}`)
	base := serve(t, api.Config{PluginURL: plugin.URL})
	answer := send(t, http.MethodGet, base+"/getLogs", `{"Namespace":"default","PodUID":"`+sleepUID+`","Opts":{"Tail":1,"Bytes":9}}`)
	assert.Equal(t, http.StatusOK, answer.code)
	assert.Equal(t, "line\n", answer.body)
}

func TestUpdateCacheAnswersAlways(t *testing.T) {
	t.Parallel()
	plugin := newPluginDouble(t, text("[]"))
	base := serve(t, api.Config{PluginURL: plugin.URL})
	for _, body := range []string{string(interlinktest.Requests(t, fixtures+"/vk")["updatecache"].Body), sleepUID, "", "{", "null"} {
		answer := send(t, http.MethodPost, base+"/updateCache", body)
		assert.Equal(t, http.StatusOK, answer.code)
		assert.Equal(t, "Updated cache", answer.body)
	}
}

// plain is a client without settings.
var plain = &http.Client{}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(address, "http://"))
	require.NoError(t, err)
	return conn.(*net.TCPConn)
}
