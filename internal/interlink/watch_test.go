// SPDX-License-Identifier: Apache-2.0

package interlink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/interlink/interlinktest"
)

func watch(ctx context.Context, client *interlink.Client) (events []interlink.EventType, err error) {
	err = client.Watch(ctx, interlink.WatchRequest{Cluster: "af", Node: "virtual"}, func(event interlink.StatusEvent) error {
		events = append(events, event.Type)
		return nil
	})
	return events, err
}

func TestWatchStreams(t *testing.T) {
	t.Parallel()
	status := strings.ReplaceAll(string(interlinktest.Answer(t, "testdata/answers", "event-status")), "\n", "")
	huge := `{"type":"STATUS","status":{"name":"` + strings.Repeat("x", 1<<20) + `"}}`
	for name, test := range map[string]struct {
		stream string
		cut    bool
		want   []interlink.EventType
		err    string
	}{
		"ends well":       {status + "\n" + `{"type":"SYNCED"}` + "\n", false, []interlink.EventType{interlink.EventStatus, interlink.EventSynced}, "EOF"},
		"empty":           {"", false, nil, "EOF"},
		"cut at a line":   {status + "\n", true, []interlink.EventType{interlink.EventStatus}, "status stream: unexpected EOF"},
		"cut in a line":   {`{"type":"STA`, true, nil, "status stream: decode event"},
		"unknown type":    {`{"type":"FUTURE","x":1}` + "\n", false, []interlink.EventType{"FUTURE"}, "EOF"},
		"no JSON":         {"hello\n", false, nil, "status stream: decode event"},
		"large line":      {huge + "\n", false, []interlink.EventType{interlink.EventStatus}, "EOF"},
		"monstrous line":  {strings.Repeat("x", 17<<20), false, nil, "token too long"},
		"wrong kind":      {`{"type":"STATUS","status":[]}` + "\n", false, nil, "status stream: decode event"},
		"last unfinished": {`{"type":"SYNCED"}`, false, []interlink.EventType{interlink.EventSynced}, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, "cluster=af&node=virtual", r.URL.RawQuery)
				_, _ = io.WriteString(w, test.stream)
				if test.cut {
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler) //nolint:forbidigo // what a cut connection looks like
				}
			})
			events, err := watch(t.Context(), client)
			assert.Equal(t, test.want, events)
			require.ErrorContains(t, err, test.err)
			assert.Equal(t, test.err == "EOF", errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF))
		})
	}
}

func TestWatchEndsWithItsHandlerAndItsContext(t *testing.T) {
	t.Parallel()
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"type":"SYNCED"}`+"\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	enough := errors.New("enough")
	err := client.Watch(t.Context(), interlink.WatchRequest{}, func(interlink.StatusEvent) error { return enough })
	require.ErrorIs(t, err, enough)

	ctx, cancel := context.WithCancelCause(t.Context())
	err = client.Watch(ctx, interlink.WatchRequest{}, func(interlink.StatusEvent) error {
		cancel(enough)
		return nil
	})
	require.ErrorIs(t, err, enough, "the cause of the cancelling, not its effect")

	gone := newClient(t, http.NotFound)
	_, err = watch(t.Context(), gone)
	assert.True(t, interlink.IsNotFound(err))
}

// pipeTransport answers with a stream that the test writes, in the test's own time.
type pipeTransport struct{ stream *io.PipeReader }

func (p pipeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.stream == nil {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	context.AfterFunc(r.Context(), func() { _ = p.stream.CloseWithError(r.Context().Err()) })
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: p.stream, Request: r}, nil
}

func TestWatchNoticesSilence(t *testing.T) {
	t.Parallel()
	for name, heartbeats := range map[string]int{"at once": 0, "after five heartbeats": 5} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reader, writer := io.Pipe()
				client := clientOf(t, interlink.ClientConfig{BaseURL: "http://x", HTTP: &http.Client{Transport: pipeTransport{reader}}})
				go func() {
					for range heartbeats {
						<-time.NewTimer(2 * interlink.HeartbeatSeconds * time.Second).C
						_, _ = fmt.Fprintln(writer, `{"type":"HEARTBEAT"}`)
					}
				}()
				start := time.Now()
				events, err := watch(t.Context(), client)
				require.ErrorIs(t, err, interlink.ErrStreamSilent)
				assert.Len(t, events, heartbeats)
				assert.Equal(t, time.Duration(heartbeats*2+3)*interlink.HeartbeatSeconds*time.Second, time.Since(start))
			})
		})
	}
}

func TestWatchDoesNotCountASlowHandlerAsSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, writer := io.Pipe()
		client := clientOf(t, interlink.ClientConfig{BaseURL: "http://x", HTTP: &http.Client{Transport: pipeTransport{reader}}})
		go func() {
			_, _ = io.WriteString(writer, `{"type":"SYNCED"}`+"\n")
			_ = writer.Close()
		}()
		err := client.Watch(t.Context(), interlink.WatchRequest{}, func(interlink.StatusEvent) error {
			<-time.NewTimer(time.Hour).C
			return nil
		})
		require.ErrorIs(t, err, io.EOF)
	})
}

func TestWatchDoesNotWaitForEverForTheHeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := clientOf(t, interlink.ClientConfig{BaseURL: "http://x", HTTP: &http.Client{Transport: pipeTransport{}}})
		_, err := watch(t.Context(), client)
		require.ErrorIs(t, err, interlink.ErrStreamSilent)
	})
}

// FuzzMessages: what one end decodes it can encode, and the other end decodes the same.
func FuzzMessages(f *testing.F) {
	for _, directory := range []string{"testdata/vk", "testdata/plugin"} {
		for _, recorded := range interlinktest.Requests(f, directory) {
			f.Add(recorded.Body)
		}
	}
	for _, name := range []string{"created", "ping-0.6.2", "ping-extensions", "statuses", "event-status", "event-node"} {
		f.Add(interlinktest.Answer(f, "testdata/answers", name))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, pair := range [][2]any{
			{&interlink.CreateRequest{}, &interlink.CreateRequest{}},
			{&interlink.PluginPod{}, &interlink.PluginPod{}},
			{&interlink.Created{}, &interlink.Created{}},
			{&[]interlink.PodStatus{}, &[]interlink.PodStatus{}},
			{&interlink.LogRequest{}, &interlink.LogRequest{}},
			{&interlink.PingResponse{}, &interlink.PingResponse{}},
			{&interlink.StatusEvent{}, &interlink.StatusEvent{}},
		} {
			if json.Unmarshal(text, pair[0]) != nil {
				continue
			}
			first, err := json.Marshal(pair[0])
			if err != nil {
				continue // a time that JSON cannot express
			}
			require.NoError(t, json.Unmarshal(first, pair[1]))
			second, err := json.Marshal(pair[1])
			require.NoError(t, err)
			require.Equal(t, string(first), string(second))
		}
	})
}

// FuzzWatch: no stream, however broken, hangs or breaks the reader.
func FuzzWatch(f *testing.F) {
	f.Add([]byte(`{"type":"SYNCED"}` + "\n" + `{"type":"HEARTBEAT"}` + "\n"))
	f.Add(interlinktest.Answer(f, "testdata/answers", "event-status"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		transport := roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(stream))), Request: r}, nil
		})
		client := clientOf(t, interlink.ClientConfig{BaseURL: "http://x", HTTP: &http.Client{Transport: transport}})
		_, err := watch(t.Context(), client)
		require.Error(t, err)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
