// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"
)

// maxBody bounds the bodies that are kept for rules and replays.
const maxBody = 64 << 20

// Match says which requests a rule is for. What is empty matches all.
type Match struct {
	// Method is an HTTP method; Path a regular expression for path and query.
	Method, Path string
	// Body, if not nil, looks at the request's body.
	Body func(body []byte) bool
}

// Answer is a reply instead of the true one.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Rule is one kind of trouble.
type Rule struct {
	Match

	// Times is how many requests have it; 0 is all, until the rule is removed. Skip is how
	// many matching requests are spared first.
	Times, Skip int
	// Probability, if not 0, is how likely a matching request has it.
	Probability float64
	// Before, if not nil, is called before anything else, After when the service has
	// answered, before the client knows. They may kill the client.
	Before, After func(*http.Request)
	// Delay is waited for before the request goes on.
	Delay time.Duration
	// Answer, if not nil, is what the client gets. If Forward is set the service does what
	// was asked all the same.
	Answer  *Answer
	Forward bool
	// Cut ends the connection instead of answering, after the service did what was asked
	// if Forward is set.
	Cut bool
	// LagTime and LagCalls answer a GET as it was answered that long, or that many calls
	// of the same address, ago, or as the oldest answer that is known. Answers are known
	// from the rule's beginning; with LagTime, the very first is the true one.
	LagTime  time.Duration
	LagCalls int
}

// Call is one request that came.
type Call struct {
	Method, Path string
	// Status is the service's own answer, 0 if it was not asked; Told is the client's, 0 if
	// it got none.
	Status, Told int
	At           time.Time
	Took         time.Duration
}

// Faults puts troubles between a client and services, and records the calls. It may be
// used concurrently.
type Faults struct {
	mu    sync.Mutex
	dice  *rand.Rand
	rules []*active
	next  int
	calls []Call
	past  map[string][]remembered
}

type active struct {
	Rule

	id      int
	path    *regexp.Regexp
	matched int
	done    int
}

// remembered is a true answer of the past.
type remembered struct {
	at     time.Time
	status int
	header http.Header
	body   []byte
}

// NewFaults makes Faults without rules. The seed makes chances repeatable.
func NewFaults(seed uint64) *Faults {
	return &Faults{dice: rand.New(rand.NewPCG(seed, seed)), past: map[string][]remembered{}} //nolint:gosec // repeatable chances
}

// Add puts a rule behind those that are there; the first that matches counts. Its path
// must be a regular expression, else it matches nothing.
func (f *Faults) Add(rule Rule) (remove func()) {
	path, err := regexp.Compile(rule.Path)
	if err != nil {
		path = regexp.MustCompile(`$.^`)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	id := f.next
	f.rules = append(f.rules, &active{Rule: rule, id: id, path: path})
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rules = slices.DeleteFunc(f.rules, func(one *active) bool { return one.id == id })
	}
}

// Clear removes all rules.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// Calls are all requests that have been answered, in the order of their answers.
func (f *Faults) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Forget drops the recorded calls.
func (f *Faults) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = nil
}

// Count is how many calls have been answered that match; bodies are not looked at.
func (f *Faults) Count(match Match) int {
	path, err := regexp.Compile(match.Path)
	if err != nil {
		return 0
	}
	count := 0
	for _, call := range f.Calls() {
		if (match.Method == "" || match.Method == call.Method) && path.MatchString(call.Path) {
			count++
		}
	}
	return count
}

// Wrap puts the troubles in front of a handler.
func (f *Faults) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		call := Call{Method: r.Method, Path: r.URL.RequestURI(), At: started}
		cut := f.serve(w, r, next, &call)
		call.Took = time.Since(started)
		f.mu.Lock()
		f.calls = append(f.calls, call)
		f.mu.Unlock()
		if cut {
			hangUp(w)
		}
	})
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = connection.Close() // that is what is wanted
	}
}

func (f *Faults) serve(w http.ResponseWriter, r *http.Request, next http.Handler, call *Call) (cut bool) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return true
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	rule := f.choose(r, body)
	if rule == nil {
		f.forward(w, r, next, call)
		return false
	}
	if rule.Before != nil {
		rule.Before(r)
	}
	if !waited(r, rule.Delay) {
		return true
	}
	if rule.LagCalls > 0 || rule.LagTime > 0 {
		f.lag(w, r, next, call, rule)
		return false
	}
	if rule.Answer == nil && !rule.Cut {
		answer := f.ask(r, next, call)
		after(rule, r)
		answer.send(w, call)
		return false
	}
	if rule.Forward {
		f.ask(r, next, call)
		after(rule, r)
	}
	if rule.Cut {
		return true
	}
	reply := remembered{status: rule.Answer.Status, header: rule.Answer.Header, body: []byte(rule.Answer.Body)}
	reply.send(w, call)
	return false
}

func after(rule *Rule, r *http.Request) {
	if rule.After != nil {
		rule.After(r)
	}
}

func waited(r *http.Request, delay time.Duration) bool {
	if delay <= 0 {
		return true
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// choose is the first rule that matches, and whose turn it is.
func (f *Faults) choose(r *http.Request, body []byte) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.rules {
		if one.Method != "" && one.Method != r.Method || !one.path.MatchString(r.URL.RequestURI()) || one.Body != nil && !one.Body(body) {
			continue
		}
		one.matched++
		if one.matched <= one.Skip || one.Times > 0 && one.done >= one.Times {
			continue
		}
		if one.Probability > 0 && f.dice.Float64() >= one.Probability {
			continue
		}
		one.done++
		rule := one.Rule
		return &rule
	}
	return nil
}

// lags tells whether a rule wants the past of an address.
func (f *Faults) lags(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return r.Method == http.MethodGet && slices.ContainsFunc(f.rules, func(one *active) bool {
		return (one.LagCalls > 0 || one.LagTime > 0) && one.path.MatchString(r.URL.RequestURI())
	})
}

func (f *Faults) forward(w http.ResponseWriter, r *http.Request, next http.Handler, call *Call) {
	if !f.lags(r) {
		watched := &watcher{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(watched, r)
		call.Status, call.Told = watched.status, watched.status
		return
	}
	answer := f.ask(r, next, call)
	f.remember(r, answer)
	answer.send(w, call)
}

// ask has the service do what was asked, and keeps its answer.
func (f *Faults) ask(r *http.Request, next http.Handler, call *Call) remembered {
	kept := &recorder{header: http.Header{}, status: http.StatusOK}
	at := time.Now()
	next.ServeHTTP(kept, r)
	call.Status = kept.status
	return remembered{at: at, status: kept.status, header: kept.header, body: kept.body.Bytes()}
}

// lag answers with the past.
func (f *Faults) lag(w http.ResponseWriter, r *http.Request, next http.Handler, call *Call, rule *Rule) {
	answer := f.ask(r, next, call)
	past := f.remember(r, answer)
	after(rule, r)
	chosen := past[0]
	if rule.LagCalls > 0 {
		chosen = past[max(len(past)-1-rule.LagCalls, 0)]
	}
	if rule.LagTime > 0 {
		for _, one := range past {
			if !one.at.After(answer.at.Add(-rule.LagTime)) {
				chosen = one
			}
		}
	}
	chosen.send(w, call)
}

// maxPast is how many answers of an address are kept.
const maxPast = 4096

func (f *Faults) remember(r *http.Request, answer remembered) []remembered {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.URL.RequestURI()
	f.past[key] = append(f.past[key], answer)
	if len(f.past[key]) > maxPast {
		f.past[key] = f.past[key][len(f.past[key])-maxPast:]
	}
	return slices.Clone(f.past[key])
}

func (a remembered) send(w http.ResponseWriter, call *Call) {
	for key, values := range a.header {
		if key != "Content-Length" {
			w.Header()[key] = values
		}
	}
	call.Told = a.status
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client may have gone
}

// watcher sees the status that goes by.
type watcher struct {
	http.ResponseWriter

	status int
}

func (w *watcher) WriteHeader(code int) {
	w.status = code
	w.ResponseWriter.WriteHeader(code)
}

func (w *watcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(code int) { r.status = code }

func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }
