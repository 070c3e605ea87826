// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
	"github.com/cloudveneto/caas/sidecar/api"
)

// hop returns the URL of a plugin and of a gateway in front of it.
func hop(b *testing.B, answer http.HandlerFunc) (direct, through string) {
	b.Helper()
	plugin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer(w, r)
	}))
	b.Cleanup(plugin.Close)
	gateway, err := api.New(api.Config{PluginURL: plugin.URL})
	require.NoError(b, err)
	b.Cleanup(gateway.Close)
	server := httptest.NewServer(gateway.Handler())
	b.Cleanup(server.Close)
	return plugin.URL, server.URL
}

func exchangeOnce(b *testing.B, request *http.Request) {
	b.Helper()
	answer, err := plain.Do(request)
	require.NoError(b, err)
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(b, err)
	require.NoError(b, answer.Body.Close())
	require.Equal(b, http.StatusOK, answer.StatusCode)
}

func both(b *testing.B, direct, through string, recorded interlinktest.Request, size int64) {
	b.Helper()
	for name, base := range map[string]string{"direct": direct, "through": through} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				exchangeOnce(b, recorded.New(b, base))
			}
		})
	}
}

// BenchmarkLogs compares a log stream through the gateway with the plugin's own.
func BenchmarkLogs(b *testing.B) {
	const size = 64 << 20
	block := []byte(strings.Repeat(strings.Repeat("x", 127)+"\n", 256))
	direct, through := hop(b, func(w http.ResponseWriter, _ *http.Request) {
		for range size / len(block) {
			_, _ = w.Write(block)
		}
	})
	both(b, direct, through, interlinktest.Requests(b, fixtures+"/vk")["logs"], size)
}

func BenchmarkCreate(b *testing.B) {
	direct, through := hop(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"PodUID":"u","PodJID":"j"}`) })
	recorded := interlinktest.Requests(b, fixtures+"/vk")["create-full"]
	both(b, direct, through, recorded, int64(len(recorded.Body)))
}

// BenchmarkStatus asks for 1,000 pods at once.
func BenchmarkStatus(b *testing.B) {
	recorded := interlinktest.Requests(b, fixtures+"/vk")["status-one"]
	pod := strings.Trim(string(recorded.Body), "[] \n")
	pods, statuses := []string{}, []string{}
	for i := range 1000 {
		uid := fmt.Sprintf("uid-%d", i)
		pods = append(pods, strings.ReplaceAll(pod, sleepUID, uid))
		statuses = append(statuses, fmt.Sprintf(`{"name":"p","UID":%q,"namespace":"n","JID":"j","containers":[{"name":"main","state":{"running":{"startedAt":"2026-05-04T10:00:03Z"}},"ready":true}],"initContainers":null}`, uid))
	}
	answer := "[" + strings.Join(statuses, ",") + "]"
	direct, through := hop(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
	recorded.Body = []byte("[" + strings.Join(pods, ",") + "]")
	recorded.Path = interlink.PathStatus
	both(b, direct, through, recorded, int64(len(recorded.Body)))
}
