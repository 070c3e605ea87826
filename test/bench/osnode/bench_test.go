// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// nova answers as Nova does to a few requests.
func nova(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"server": {"id": "`+r.Header.Get("Id")+`"}}`)
	case http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		_, _ = io.WriteString(w, `{"servers": [{"id": "a"}, {"id": "b"}]}`)
	}
}

func TestLedgerKeepsWhatNovaAgreedTo(t *testing.T) {
	t.Parallel()
	l := newLedger()
	crashes := 0
	l.crash, l.lag, l.lagShare = func() { crashes++ }, time.Hour, 1
	handler := l.counted(l.wrap(http.HandlerFunc(nova)))
	do := func(method, path, id, body string) string {
		request := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		request.Header.Set("Id", id)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		return answer.Body.String()
	}
	const asked = `{"server": {"metadata": {"osn.infn.it:uid": "u"}}}`
	do(http.MethodPost, serversPath, "a", asked)
	assert.Equal(t, 1, l.count("u"))
	assert.JSONEq(t, `{"servers": [{"id": "b"}]}`, do(http.MethodGet, serversPath+"/detail", "", ""), "a is too new for lists")
	do(http.MethodPost, serversPath, "b", asked)
	assert.Equal(t, 2, l.count("u"))
	do(http.MethodDelete, serversPath+"/a", "", "")
	assert.Equal(t, 1, l.count("u"), "one that goes does not count")
	l.remove("a")
	l.remove("b")
	assert.Zero(t, l.count("u"))
	doubled, longest, requests := l.doubles()
	assert.Equal(t, 1, doubled)
	assert.Positive(t, longest)
	assert.Equal(t, 2, requests)
	assert.Equal(t, 3, crashes)
	assert.EqualValues(t, 4, l.calls.Load())
}

func TestShortPath(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "/u/1/v2.1/servers/ID", shortPath("/u/1/v2.1/servers/43b3d607-bd12-44a9-a049-2394f7ae4de8?x=y"))
	assert.Equal(t, "/u/1/v2.1/servers/detail", shortPath("/u/1/v2.1/servers/detail?name=a"))
}
