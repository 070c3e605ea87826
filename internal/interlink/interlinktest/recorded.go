// SPDX-License-Identifier: Apache-2.0

// Package interlinktest reads the recorded interLink messages in
// internal/interlink/testdata, for the tests of everybody who speaks the protocol:
// testdata/vk is what virtual kubelets send, testdata/plugin what API servers send
// to plugins, testdata/answers what comes back.
//
//	for name, recorded := range interlinktest.Requests(t, "../../internal/interlink/testdata/plugin") {
//		answer, err := http.DefaultClient.Do(recorded.New(t, server.URL))
//		…
//	}
package interlinktest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Request is one recorded request.
type Request struct {
	Method string
	Path   string
	Header http.Header
	Body   []byte
}

// New returns the request for the server at baseURL.
func (r Request) New(tb testing.TB, baseURL string) *http.Request {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), r.Method, baseURL+r.Path, bytes.NewReader(r.Body))
	require.NoError(tb, err)
	request.Header = r.Header.Clone()
	return request
}

// Requests reads the .http files of a directory, by name without the suffix: a
// line with method and path, header lines, an empty line, and the body.
func Requests(tb testing.TB, directory string) map[string]Request {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(directory, "*.http"))
	require.NoError(tb, err)
	require.NotEmpty(tb, files, "no recorded requests in %s", directory)
	requests := map[string]Request{}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Clean(file))
		require.NoError(tb, err)
		head, body, _ := strings.Cut(string(text), "\n\n")
		lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
		method, path, found := strings.Cut(lines[0], " ")
		require.True(tb, found, "%s: first line", file)
		request := Request{Method: method, Path: path, Header: http.Header{}, Body: []byte(strings.TrimSuffix(body, "\n"))}
		for _, line := range lines[1:] {
			name, value, found := strings.Cut(line, ":")
			require.True(tb, found, "%s: header %q", file, line)
			request.Header.Set(name, strings.TrimSpace(value))
		}
		requests[strings.TrimSuffix(filepath.Base(file), ".http")] = request
	}
	return requests
}

// Answer reads one recorded answer.
func Answer(tb testing.TB, directory, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Clean(filepath.Join(directory, name+".json")))
	require.NoError(tb, err)
	return bytes.TrimSpace(text)
}

// Canonical is a JSON text with sorted keys and without what Kubernetes' types
// write or leave out depending on their version: null times and empty objects.
func Canonical(tb testing.TB, text []byte) string {
	tb.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	require.NoError(tb, decoder.Decode(&value), "%.200s", text)
	encoded, err := json.MarshalIndent(prune(value), "", "  ")
	require.NoError(tb, err)
	return string(encoded)
}

func prune(value any) any {
	switch typed := value.(type) {
	case map[string]any:
		for key, field := range typed {
			typed[key] = prune(field)
			object, isObject := typed[key].(map[string]any)
			empty := isObject && len(object) == 0
			noTime := field == nil && (key == "creationTimestamp" || strings.HasSuffix(key, "Time") || strings.HasSuffix(key, "At"))
			if empty || noTime {
				delete(typed, key)
			}
		}
	case []any:
		for i := range typed {
			typed[i] = prune(typed[i])
		}
	}
	return value
}
