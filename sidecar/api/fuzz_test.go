// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
	"github.com/cloudveneto/caas/sidecar/api"
)

// inProcess is a gateway whose plugin answers answer, without any connection.
func inProcess(tb testing.TB, answer string) (handler http.Handler, asked func() []byte) {
	tb.Helper()
	var last []byte
	gateway, err := api.New(api.Config{
		PluginURL: "http://plugin.invalid",
		WrapTransport: func(http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				recorder := httptest.NewRecorder()
				if body := readAll(r); string(body) != "[]" {
					last = body
				}
				_, _ = recorder.WriteString(answer)
				return recorder.Result(), nil
			})
		},
	})
	require.NoError(tb, err)
	return gateway.Handler(), func() []byte { return last }
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func readAll(r *http.Request) []byte {
	body := make([]byte, r.ContentLength)
	for read := 0; read < len(body); {
		n, err := r.Body.Read(body[read:])
		read += n
		if err != nil {
			break
		}
	}
	return body
}

func seed(f *testing.F, prefix string) {
	f.Helper()
	for name, recorded := range interlinktest.Requests(f, fixtures+"/vk") {
		if strings.HasPrefix(name, prefix) {
			f.Add(recorded.Body)
		}
	}
	for _, body := range []string{"", "null", "[]", "{}", `"x"`, "[null]", `{"pod":null}`, `{"pod":{"metadata":{"uid":"u"}},"configmaps":[null]}`, "{\"\xff\":1}"} {
		f.Add([]byte(body))
	}
}

func post(t *testing.T, handler http.Handler, path string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(string(body))))
	return recorder
}

// FuzzCreate: whatever comes is refused, or reaches the plugin as a message that
// the plugin's decoder takes, with one container entry per container.
func FuzzCreate(f *testing.F) {
	seed(f, "create")
	handler, asked := inProcess(f, "{}")
	f.Fuzz(func(t *testing.T, body []byte) {
		answer := post(t, handler, interlink.PathCreate, body)
		if answer.Code != http.StatusOK {
			assert.Equal(t, http.StatusBadRequest, answer.Code)
			return
		}
		var sent struct {
			Pod struct {
				Spec struct{ InitContainers, Containers []json.RawMessage }
			}
			Container []struct{ Name string }
		}
		require.NoError(t, json.Unmarshal(asked(), &sent))
		assert.Len(t, sent.Container, len(sent.Pod.Spec.InitContainers)+len(sent.Pod.Spec.Containers))
	})
}

// FuzzStatus: every answer is a list, or a refusal.
func FuzzStatus(f *testing.F) {
	seed(f, "status")
	handler, asked := inProcess(f, `[{"UID":"u"}]`)
	f.Fuzz(func(t *testing.T, body []byte) {
		answer := post(t, handler, interlink.PathStatus, body)
		if answer.Code != http.StatusOK {
			assert.Equal(t, http.StatusBadRequest, answer.Code)
			return
		}
		var list []json.RawMessage
		require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &list))
		assert.NotNil(t, list)
		if asked() != nil {
			require.NoError(t, json.Unmarshal(asked(), &list))
		}
	})
}

// FuzzPluginStatuses: whatever a plugin answers, the caller gets a list or an error.
func FuzzPluginStatuses(f *testing.F) {
	f.Add(interlinktest.Answer(f, fixtures+"/answers", "statuses"))
	f.Add([]byte("null"))
	f.Add([]byte(`[{"UID":"u"},null,{"uid":1}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		handler, _ := inProcess(t, string(body))
		answer := post(t, handler, interlink.PathStatus, []byte(`[{"metadata":{"uid":"u"}}]`))
		if answer.Code != http.StatusOK {
			assert.Equal(t, http.StatusInternalServerError, answer.Code)
			return
		}
		var list []json.RawMessage
		require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &list))
	})
}

// FuzzPing: only the gateway says what works end to end.
func FuzzPing(f *testing.F) {
	for _, name := range []string{"ping-0.6.2", "ping-cleared-taints", "ping-extensions", "statuses-null"} {
		f.Add(interlinktest.Answer(f, fixtures+"/answers", name))
	}
	f.Add([]byte(`{"Extensions":["idempotent/v1"],"pluginExtensions":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		handler, _ := inProcess(t, string(body))
		answer := post(t, handler, interlink.PathPing, nil)
		require.Equal(t, http.StatusOK, answer.Code)
		var offered struct {
			PluginExtensions []string `json:"pluginExtensions"`
		}
		_ = json.Unmarshal(body, &offered)
		var ping interlink.PingResponse
		if json.Unmarshal(answer.Body.Bytes(), &ping) == nil {
			for _, extension := range ping.Extensions {
				assert.Contains(t, offered.PluginExtensions, string(extension))
			}
		}
	})
}

func FuzzDelete(f *testing.F) {
	seed(f, "delete")
	handler, _ := inProcess(f, "ok")
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{interlink.PathDelete, interlink.PathUpdateCache} {
			answer := post(t, handler, path, body)
			assert.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, answer.Code)
		}
	})
}

func FuzzLogs(f *testing.F) {
	seed(f, "logs")
	handler, asked := inProcess(f, "line\n")
	f.Fuzz(func(t *testing.T, body []byte) {
		answer := post(t, handler, interlink.PathLogs, body)
		if answer.Code != http.StatusOK {
			assert.Equal(t, http.StatusBadRequest, answer.Code)
			return
		}
		var sent interlink.LogRequest
		require.NoError(t, json.Unmarshal(asked(), &sent))
		assert.NotEmpty(t, sent.Namespace)
	})
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte(upstreamFile))
	f.Add([]byte("Auth: {OIDC: [{}]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "c.yaml")
		require.NoError(t, os.WriteFile(file, text, 0o600))
		settings, err := api.ReadSettings(file)
		if err != nil {
			return
		}
		settings.Complete()
		if settings.Validate(false) == nil {
			_, err := settings.Server()
			require.NoError(t, err, "valid settings describe a server")
		}
	})
}
