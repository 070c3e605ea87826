// SPDX-License-Identifier: Apache-2.0

// Package identitytest is a Keystone with users, projects, application credentials and trusts, and
// the platform's API server as far as it says who somebody is. It passes the same conformance tests
// as a real Keystone, has faults on demand, and remembers what it was asked.
package identitytest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

type object = map[string]any

// User is somebody with an account.
type User struct {
	ID, Name, Password, Passcode string
	// Roles are by the project's name.
	Roles map[string][]string
}

// Project is one of the server's.
type Project struct {
	ID, Name string
	// Namespace is what the platform says, empty if it has no such path.
	Namespace string
	Disabled  bool
}

// Token is one that was given out.
type Token struct {
	Value, UserID, ProjectID string
	Expires                  time.Time
	// Credential is the application credential's id that it was made with.
	Credential string
	Roles      []string
	Methods    []string
}

// Credential is an application credential.
type Credential struct {
	ID, Name, Secret, UserID, ProjectID string
	Roles                               []string
	Expires                             time.Time
	Unrestricted                        bool
}

// Trust is a trust.
type Trust struct {
	ID, TrustorID, TrusteeID, ProjectID string
	Roles                               []string
	Expires                             time.Time
	Impersonation, Redelegation         bool
}

// Server is a Keystone.
type Server struct {
	*httptest.Server

	mu       sync.Mutex
	users    map[string]User
	projects map[string]Project
	tokens   map[string]Token
	creds    map[string]Credential
	trusts   map[string]Trust
	requests []string
	faults   []http.HandlerFunc
	// life is how long tokens last, and skew how far its clock is ahead.
	life, skew time.Duration
	// silent tells that the platform has no path for namespaces.
	silent bool
}

// Start serves without TLS until the test ends.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := newServer()
	s.Server = httptest.NewServer(s.routes())
	tb.Cleanup(s.Close)
	return s
}

// StartTLS serves with TLS until the test ends.
func StartTLS(tb testing.TB) *Server {
	tb.Helper()
	s := newServer()
	s.Server = httptest.NewTLSServer(s.routes())
	tb.Cleanup(s.Close)
	return s
}

func newServer() *Server {
	return &Server{
		users: map[string]User{}, projects: map[string]Project{}, tokens: map[string]Token{}, creds: map[string]Credential{}, trusts: map[string]Trust{},
		life: time.Hour,
	}
}

// AuthURL is Keystone's address.
func (s *Server) AuthURL() string { return s.URL + "/v3" }

// AddProject makes a project.
func (s *Server) AddProject(project Project) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.projects[project.Name] = project
}

// AddUser makes a user.
func (s *Server) AddUser(user User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[user.ID] = user
}

// Fail answers the next requests with the faults, one each.
func (s *Server) Fail(faults ...http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Silence takes the platform's path for namespaces away.
func (s *Server) Silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

// Tokens that are valid from now on last so long.
func (s *Server) Tokens(life time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = life
}

// Skew sets the server's clock ahead.
func (s *Server) Skew(ahead time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = ahead
}

// Requests are what was asked so far, with method and path.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// Valid are the tokens that can be used now.
func (s *Server) Valid() []Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Token
	for _, token := range s.tokens {
		if s.usable(token) {
			all = append(all, token)
		}
	}
	return all
}

// Credentials are the application credentials that there are.
func (s *Server) Credentials() []Credential {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Credential
	for _, one := range s.creds {
		all = append(all, one)
	}
	return all
}

// Trusts are the trusts that there are.
func (s *Server) Trusts() []Trust {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Trust
	for _, one := range s.trusts {
		all = append(all, one)
	}
	return all
}

// SetTrust puts a trust in place, for those that were made some time ago.
func (s *Server) SetTrust(trust Trust) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trusts[trust.ID] = trust
}

// RevokeAll ends all tokens.
func (s *Server) RevokeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// Status is a fault that answers with a status.
func Status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func (s *Server) now() time.Time { return time.Now().Add(s.skew) }

func (s *Server) usable(token Token) bool {
	if token.Credential != "" {
		if _, there := s.creds[token.Credential]; !there {
			return false
		}
	}
	return token.Expires.After(s.now())
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v3/{$}", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, object{"version": object{"id": "v3.14"}}) })
	mux.HandleFunc("POST /v3/auth/tokens", s.login)
	mux.HandleFunc("GET /v3/auth/tokens", s.inspect)
	mux.HandleFunc("DELETE /v3/auth/tokens", s.revoke)
	mux.HandleFunc("GET /v3/auth/projects", s.asUser(s.listProjects))
	mux.HandleFunc("POST /v3/users/{user}/application_credentials", s.asUser(s.createCredential))
	mux.HandleFunc("DELETE /v3/users/{user}/application_credentials/{id}", s.asUser(s.deleteCredential))
	mux.HandleFunc("GET /v3/OS-TRUST/trusts", s.asUser(s.listTrusts))
	mux.HandleFunc("POST /v3/OS-TRUST/trusts", s.asUser(s.createTrust))
	mux.HandleFunc("GET /v3/OS-TRUST/trusts/{id}", s.asUser(s.readTrust))
	mux.HandleFunc("DELETE /v3/OS-TRUST/trusts/{id}", s.asUser(s.deleteTrust))
	mux.HandleFunc("GET /mt/v1/whoami", s.whoami)
	mux.HandleFunc("POST /apis/authentication.k8s.io/v1/selfsubjectreviews", s.review)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, r.Method+" "+r.URL.Path)
		w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
		if len(s.faults) > 0 {
			fault := s.faults[0]
			s.faults = s.faults[1:]
			fault(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // it goes to a client that may have gone
}

func refuse(w http.ResponseWriter, status int, text string) {
	answer(w, status, object{"error": object{"code": status, "message": text, "title": http.StatusText(status)}})
}

func fernet() string {
	data := make([]byte, 97)
	_, _ = rand.Read(data) // it never fails
	copy(data, []byte{0x80, 0, 0, 0, 0})
	return base64.RawURLEncoding.EncodeToString(data)
}

func newID() string { return strings.ToLower(rand.Text()) }

const wireTime = "2006-01-02T15:04:05.000000Z"
