// SPDX-License-Identifier: Apache-2.0

// Package keystonetest serves what Keystone says of tokens, with faults that the real one
// does not have on demand. It passes the same conformance tests as the real one.
package keystonetest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Object is a piece of JSON.
type Object = map[string]any

// Server is a Keystone that knows the tokens it is told of.
type Server struct {
	*httptest.Server

	mu       sync.Mutex
	tokens   map[string]Object
	faults   []http.HandlerFunc
	requests []http.Header
	queries  []string
	// services are the tokens that the service user has been given.
	services map[string]bool
}

// Start serves until the test ends.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{tokens: map[string]Object{}, services: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v3/auth/tokens", s.validate)
	mux.HandleFunc("POST /v3/auth/tokens", s.login)
	mux.HandleFunc("GET /v3/projects/{id}", s.project)
	s.Server = httptest.NewTLSServer(mux)
	tb.Cleanup(s.Close)
	return s
}

// AuthURL is the server's address.
func (s *Server) AuthURL() string { return s.URL + "/v3" }

// Fernet makes a token of the right form.
func Fernet() string {
	data := make([]byte, 1+8+16+64+32)
	_, _ = rand.Read(data) // it never fails
	copy(data, []byte{0x80, 0, 0, 0, 0})
	return base64.RawURLEncoding.EncodeToString(data)
}

// Token is a token of a member of a project, as Keystone describes it.
func Token() Object {
	now := time.Now().UTC()
	return Object{
		"methods": []string{"password"}, "audit_ids": []string{"audit-1"}, "is_domain": false,
		"user": Object{
			"id": "2ddd446e119b417791492e950553a055", "name": "zangrand@infn.it", "password_expires_at": nil,
			"domain": Object{"id": "default", "name": "Default"},
		},
		"project": Object{
			"id": "55158de200964f7c8aa5ca486e6cb7ea", "name": "CMS", "domain": Object{"id": "default", "name": "Default"},
		},
		"roles":      []Object{{"id": "1", "name": "reader"}, {"id": "2", "name": "member"}},
		"issued_at":  now.Add(-time.Minute).Format("2006-01-02T15:04:05.000000Z"),
		"expires_at": now.Add(time.Hour).Format("2006-01-02T15:04:05.000000Z"),
	}
}

// Add makes a token known.
func (s *Server) Add(token string, description Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = description
}

// Revoke makes a token unknown.
func (s *Server) Revoke(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, token)
	delete(s.services, token)
}

// RevokeServices makes the service user's tokens unknown.
func (s *Server) RevokeServices() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.services)
}

// Fail answers the next questions with the faults, one each.
func (s *Server) Fail(faults ...http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Status is a fault that answers with a status.
func Status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "fault", code) }
}

// Text is a fault that answers with a text.
func Text(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

// Hang is a fault that never answers, not even when the question is given up.
func Hang(_ http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler) //nolint:forbidigo // how net/http is told to end without an answer
}

// Requests are the headers of all questions about tokens so far.
func (s *Server) Requests() []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]http.Header(nil), s.requests...)
}

// Queries are the query strings of all questions.
func (s *Server) Queries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.queries...)
}

func (s *Server) validate(w http.ResponseWriter, r *http.Request) {
	asker, subject := r.Header.Get("X-Auth-Token"), r.Header.Get("X-Subject-Token")
	s.mu.Lock()
	s.requests, s.queries = append(s.requests, r.Header.Clone()), append(s.queries, r.URL.RawQuery)
	var fault http.HandlerFunc
	if len(s.faults) > 0 {
		fault, s.faults = s.faults[0], s.faults[1:]
	}
	description, known := s.tokens[subject]
	allowed := s.services[asker] || s.tokens[asker] != nil
	s.mu.Unlock()
	switch {
	case fault != nil:
		fault(w, r)
	case !allowed:
		http.Error(w, `{"error": {"code": 401}}`, http.StatusUnauthorized)
	case !known:
		http.Error(w, `{"error": {"code": 404}}`, http.StatusNotFound)
	default:
		_ = json.NewEncoder(w).Encode(Object{"token": description}) //nolint:errchkjson // it goes to a client that may have gone
	}
}

// project describes the project of Token to the service user.
func (s *Server) project(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	allowed := s.services[r.Header.Get("X-Auth-Token")]
	var fault http.HandlerFunc
	if len(s.faults) > 0 {
		fault, s.faults = s.faults[0], s.faults[1:]
	}
	s.mu.Unlock()
	project, _ := Token()["project"].(Object)
	switch {
	case fault != nil:
		fault(w, r)
	case !allowed:
		http.Error(w, `{"error": {"code": 401}}`, http.StatusUnauthorized)
	case r.PathValue("id") != project["id"]:
		http.Error(w, `{"error": {"code": 404}}`, http.StatusNotFound)
	default:
		_ = json.NewEncoder(w).Encode(Object{"project": project}) //nolint:errchkjson // it goes to a client that may have gone
	}
}

// login gives the user service with the password secret a token.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Name, Password string }
				}
			}
		}
	}
	user := &asked.Auth.Identity.Password.User
	if json.NewDecoder(r.Body).Decode(&asked) != nil || user.Name != "service" || user.Password != "secret" {
		http.Error(w, `{"error": {"code": 401}}`, http.StatusUnauthorized)
		return
	}
	token := Fernet()
	s.mu.Lock()
	s.services[token] = true
	s.mu.Unlock()
	w.Header().Set("X-Subject-Token", token)
	w.WriteHeader(http.StatusCreated)
	//nolint:errchkjson // it goes to a client that may have gone
	_ = json.NewEncoder(w).Encode(Object{"token": Object{"expires_at": time.Now().Add(time.Hour).UTC()}})
}
