// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package jupyter_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/examples/jupyter"
)

// server is the notebook server, as browsers and the hub's proxy speak to it.
type server struct {
	t *testing.T
	// address is host:port.
	address string
}

// forward makes the server reachable through kubectl port-forward, until the test ends.
func (w *world) forward(t *testing.T) *server {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	command := w.command(ctx, t, "port-forward", jupyter.Pod, ":8888")
	output, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() { stop(); _ = command.Wait() }) // killed, which is an error
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
	require.NotEmpty(t, address, line)
	return &server{t: t, address: address}
}

// call sends a request of Jupyter's HTTP interface, with a token or without, and returns code and body.
func (s *server) call(method, path, token string, body any) (int, []byte) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var content io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		require.NoError(s.t, err)
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+s.address+path, content)
	require.NoError(s.t, err)
	if token != "" {
		request.Header.Set("Authorization", "token "+token)
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	require.NoError(s.t, err)
	defer func() { _ = answer.Body.Close() }()
	data, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	return answer.StatusCode, data
}

// startKernel starts a Python kernel and returns its id.
func (s *server) startKernel() string {
	s.t.Helper()
	code, body := s.call(http.MethodPost, "/api/kernels", jupyter.Token, map[string]string{"name": "python3"})
	require.Equal(s.t, http.StatusCreated, code, "%s", body)
	var kernel struct {
		ID string `json:"id"`
	}
	require.NoError(s.t, json.Unmarshal(body, &kernel))
	return kernel.ID
}

// message is one of Jupyter's message protocol 5.3.
type message struct {
	Header       header         `json:"header"`
	ParentHeader header         `json:"parent_header"`
	Metadata     map[string]any `json:"metadata"`
	Content      map[string]any `json:"content"`
	Channel      string         `json:"channel"`
	Buffers      []string       `json:"buffers"`
}

type header struct {
	ID       string `json:"msg_id,omitempty"`
	Type     string `json:"msg_type,omitempty"`
	Session  string `json:"session,omitempty"`
	Username string `json:"username,omitempty"`
	Version  string `json:"version,omitempty"`
}

// execute runs a cell through the kernel's WebSocket and returns what it printed and its value.
func (s *server) execute(kernel, code string) (printed, value string) {
	s.t.Helper()
	session := uuid.NewString()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	connection, answer, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+s.address+"/api/kernels/"+kernel+"/channels?session_id="+session,
		http.Header{"Authorization": {"token " + jupyter.Token}})
	require.NoError(s.t, err)
	defer func() { _ = connection.Close() }()
	require.NoError(s.t, answer.Body.Close())
	require.NoError(s.t, connection.SetReadDeadline(time.Now().Add(patience)))
	request := message{
		Header: header{ID: uuid.NewString(), Type: "execute_request", Session: session, Username: "alice", Version: "5.3"},
		Content: map[string]any{
			"code": code, "silent": false, "store_history": true, "user_expressions": map[string]any{}, "allow_stdin": false, "stop_on_error": true,
		},
		Metadata: map[string]any{}, Channel: "shell", Buffers: []string{},
	}
	require.NoError(s.t, connection.WriteJSON(request))
	var text strings.Builder
	for idle, replied := false, false; !idle || !replied; {
		var got message
		require.NoError(s.t, connection.ReadJSON(&got), "printed until then: %s", &text)
		if got.ParentHeader.ID != request.Header.ID {
			continue
		}
		switch got.Header.Type {
		case "stream":
			text.WriteString(got.text("text"))
		case "execute_result":
			data, _ := got.Content["data"].(map[string]any)
			value, _ = data["text/plain"].(string)
		case "error":
			require.Fail(s.t, "the cell failed", "%s: %s", got.text("ename"), got.text("evalue"))
		case "execute_reply":
			require.Equal(s.t, "ok", got.text("status"))
			replied = true
		case "status":
			idle = got.text("execution_state") == "idle"
		}
	}
	return text.String(), value
}

// text is a part of the content that is text.
func (m *message) text(name string) string {
	text, _ := m.Content[name].(string)
	return text
}
