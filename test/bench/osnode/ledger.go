// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const serversPath = "/compute/v2.1/servers"

// entry is a server that Nova has said yes to.
type entry struct {
	uid      string
	accepted time.Time
	// out tells that it is on its way out, or has failed: it does not count as a second one.
	out bool
}

// ledger is in front of the stand-in and keeps what Nova has agreed to, whether the
// controller ever heard of it or not. It can also make lists lag, and call crash as soon as
// Nova has agreed to something.
type ledger struct {
	calls atomic.Int64

	// These are set before the first request.
	lag      time.Duration
	lagShare float64
	crash    func()

	mu       sync.Mutex // guards what follows
	dice     *rand.Rand
	servers  map[string]*entry          // by id
	of       map[string]map[string]bool // ids by UID
	requests int
	since    map[string]time.Time // when a UID got a second server
	doubled  int
	longest  time.Duration
}

func newLedger() *ledger {
	return &ledger{
		dice:    rand.New(rand.NewPCG(1, 1)), //nolint:gosec // repeatable chances
		servers: map[string]*entry{}, of: map[string]map[string]bool{}, since: map[string]time.Time{},
	}
}

// counted counts all requests.
func (l *ledger) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.calls.Add(1)
		next.ServeHTTP(w, r)
	})
}

// wrap sees the requests that reach the services, and their answers.
func (l *ledger) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && r.URL.Path == serversPath:
			l.created(w, r, next)
		case r.Method == http.MethodDelete && path.Dir(r.URL.Path) == serversPath:
			l.deleted(w, r, next)
		case r.Method == http.MethodGet && r.URL.Path == serversPath+"/detail" && l.lags():
			l.late(w, r, next)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (l *ledger) created(w http.ResponseWriter, r *http.Request, next http.Handler) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	var asked struct {
		Server struct{ Metadata map[string]string }
	}
	var made struct{ Server struct{ ID string } }
	if answer.Code == http.StatusAccepted && json.Unmarshal(body, &asked) == nil && json.Unmarshal(answer.Body.Bytes(), &made) == nil {
		l.add(made.Server.ID, asked.Server.Metadata[osnodev1.MetaUID])
		l.agreed()
	}
	pass(w, answer)
}

func (l *ledger) deleted(w http.ResponseWriter, r *http.Request, next http.Handler) {
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	if answer.Code == http.StatusNoContent {
		l.leave(path.Base(r.URL.Path))
		l.agreed()
	}
	pass(w, answer)
}

// agreed is called when the service has done something and the client does not know yet.
func (l *ledger) agreed() {
	if l.crash != nil {
		l.crash()
	}
}

// pass gives an answer to the client.
func pass(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // the client may have gone
}

func (l *ledger) lags() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lagShare > 0 && l.dice.Float64() < l.lagShare
}

// late answers a list without the servers that are new.
func (l *ledger) late(w http.ResponseWriter, r *http.Request, next http.Handler) {
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	var list map[string]json.RawMessage
	var servers []json.RawMessage
	if answer.Code != http.StatusOK || json.Unmarshal(answer.Body.Bytes(), &list) != nil || json.Unmarshal(list["servers"], &servers) != nil {
		pass(w, answer)
		return
	}
	kept := []json.RawMessage{}
	for _, server := range servers {
		var one struct{ ID string }
		if json.Unmarshal(server, &one) == nil && !l.young(one.ID) {
			kept = append(kept, server)
		}
	}
	listed, err := json.Marshal(kept)
	list["servers"] = listed
	body, failure := json.Marshal(list)
	if err := errors.Join(err, failure); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer.Body = bytes.NewBuffer(body)
	answer.Header().Set("Content-Length", strconv.Itoa(len(body)))
	pass(w, answer)
}

func (l *ledger) young(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.servers[id]
	return known != nil && time.Since(known.accepted) < l.lag
}

func (l *ledger) add(id, uid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.servers[id] = &entry{uid: uid, accepted: time.Now()}
	if l.of[uid] == nil {
		l.of[uid] = map[string]bool{}
	}
	l.of[uid][id] = true
	if l.living(uid) > 1 && l.since[uid].IsZero() {
		l.since[uid] = time.Now()
		l.doubled++
	}
}

// living is how many servers of a UID there are to stay; the caller holds mu.
func (l *ledger) living(uid string) int {
	n := 0
	for id := range l.of[uid] {
		if !l.servers[id].out {
			n++
		}
	}
	return n
}

// leave notes that a server goes, or has failed.
func (l *ledger) leave(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.servers[id]
	if known == nil {
		return
	}
	known.out = true
	if began := l.since[known.uid]; !began.IsZero() && l.living(known.uid) < 2 {
		l.longest = max(l.longest, time.Since(began))
		delete(l.since, known.uid)
	}
}

func (l *ledger) remove(id string) {
	l.leave(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.servers[id]
	if known == nil {
		return
	}
	delete(l.servers, id)
	delete(l.of[known.uid], id)
	if len(l.of[known.uid]) == 0 {
		delete(l.of, known.uid)
	}
}

// count is how many servers of a UID there are to stay.
func (l *ledger) count(uid string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.living(uid)
}

// doubles is how many nodes had two servers at once, and for how long at most.
func (l *ledger) doubles() (count int, longest time.Duration, requests int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubled, l.longest, l.requests
}

// shortPath leaves out of a path what differs between calls of one kind.
func shortPath(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	parts := strings.Split(uri, "/")
	for i, part := range parts {
		if len(part) >= 32 {
			parts[i] = "ID"
		}
	}
	return strings.Join(parts, "/")
}
