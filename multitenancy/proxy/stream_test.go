// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestUpgrades takes connections over as exec, attach and port-forward do, by both protocols.
func TestUpgrades(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"websocket", "SPDY/3.1"} {
		for _, path := range []string{
			core + "pods/x/exec?command=sh&command=-c&stdin=true", core + "pods/x/attach", core + "pods/x/portforward", core + "services/x:80/proxy/ws",
		} {
			t.Run(protocol+path, func(t *testing.T) {
				t.Parallel()
				testUpgrade(t, protocol, path)
			})
		}
	}
}

func testUpgrade(t *testing.T, protocol, path string) {
	t.Helper()
	b := newBackend(t)
	ended := make(chan struct{})
	b.setAnswer(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err, r.Proto) {
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(buffer, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n", r.Header.Get("Upgrade"))
		_, _ = fmt.Fprintf(buffer, "%s %s\n", r.Header.Get("Authorization"), r.RequestURI)
		_ = buffer.Flush()
		_, _ = io.Copy(conn, buffer)
	})
	f := newFront(t, b)
	conn := f.dial(t)
	_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer alice\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 0\r\n\r\n", path, protocol)
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	assert.Equal(t, protocol, answer.Header.Get("Upgrade"))
	assert.Equal(t, "v4.channel.k8s.io", answer.Header.Get("X-Stream-Protocol-Version"))
	line, err := reader.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "Bearer alice "+path+"\n", line)
	for _, text := range []string{"a\n", strings.Repeat("b", 1<<20) + "\n"} {
		go func() { _, _ = io.WriteString(conn, text) }()
		line, err := reader.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, text, line)
	}
	require.NoError(t, conn.Close())
	select {
	case <-ended:
	case <-time.After(10 * time.Second): //nolint:forbidigo // a test's limit
		t.Fatal("the API server's end stays open")
	}
}

// dial opens a connection as clients do that want to upgrade it.
func (f front) dial(tb testing.TB) *tls.Conn {
	tb.Helper()
	address, err := url.Parse(f.url)
	require.NoError(tb, err)
	config := f.client.Transport.(*http.Transport).TLSClientConfig.Clone() //nolint:forcetypeassert // it is ours
	config.NextProtos, config.ServerName = []string{"http/1.1"}, "127.0.0.1"
	conn, err := (&tls.Dialer{Config: config}).DialContext(tb.Context(), "tcp", address.Host)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close() })
	return conn.(*tls.Conn) //nolint:forcetypeassert // a TLS dialer's
}

// TestStreams sees that each event of a watch and each line of a log arrives as it is written, and that the API server
// learns when the user has gone.
func TestStreams(t *testing.T) {
	t.Parallel()
	for _, path := range []string{core + "pods?watch=1", core + "pods/x/log?follow=true"} {
		b := newBackend(t)
		next, gone := make(chan string), make(chan struct{})
		b.setAnswer(func(w http.ResponseWriter, r *http.Request) {
			defer close(gone)
			w.Header().Set("Content-Type", "application/json")
			_ = http.NewResponseController(w).Flush()
			for {
				select {
				case <-r.Context().Done():
					return
				case line := <-next:
					_, _ = io.WriteString(w, line)
					_ = http.NewResponseController(w).Flush()
				}
			}
		})
		f := newFront(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+path, http.NoBody)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer alice")
		answer, err := f.client.Do(request)
		require.NoError(t, err)
		lines := bufio.NewReader(answer.Body)
		for at := range 10 {
			sent := fmt.Sprintf("{\"event\":%d}\n", at)
			next <- sent
			got, err := lines.ReadString('\n')
			require.NoError(t, err)
			assert.Equal(t, sent, got)
		}
		assert.Contains(t, f.metrics(t), `caas_proxy_requests_in_flight{kind="stream"} 1`)
		cancel()
		<-gone
		require.NoError(t, answer.Body.Close())
		require.Eventually(t, func() bool {
			return strings.Contains(f.metrics(t), `caas_proxy_requests_in_flight{kind="stream"} 0`)
		}, 10*time.Second, 10*time.Millisecond)
	}
}

// BenchmarkProxy is what a request costs with a proxy and without.
func BenchmarkProxy(b *testing.B) {
	api := newBackend(b)
	for name, size := range map[string]int{"1KiB": 1 << 10, "1MiB": 1 << 20, "16MiB": 16 << 20} {
		body := strings.Repeat("x", size)
		api.setAnswer(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, body)
		})
		f := newFront(b, api)
		direct := front{url: api.URL, client: api.Client()}
		for way, via := range map[string]front{"direct": direct, "proxy": f} {
			b.Run(name+"/"+way, func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					if got := via.do(b, "alice", http.MethodGet, core+"pods", ""); len(got.body) != size {
						b.Fatal(got.code)
					}
				}
			})
		}
	}
}
