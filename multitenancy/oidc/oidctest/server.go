// SPDX-License-Identifier: Apache-2.0

// Package oidctest serves an OpenID provider whose keys can be exchanged and which can be
// made to fail. It passes the same conformance tests as a real one.
package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// Object is a piece of JSON.
type Object = map[string]any

// Key is one of a provider's.
type Key struct {
	Name      string
	Algorithm jose.SignatureAlgorithm
	Private   crypto.Signer
}

// Server is a provider.
type Server struct {
	*httptest.Server

	mu      sync.Mutex
	keys    []Key
	made    int
	down    bool
	fetches int
	jwks    []byte // overwrites the keys
}

// Start serves until the test ends, with an RSA key.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		s.answer(w, Object{"issuer": s.URL, "jwks_uri": s.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		s.fetches++
		set, raw := jose.JSONWebKeySet{}, s.jwks
		for _, key := range s.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Private.Public(), KeyID: key.Name, Algorithm: string(key.Algorithm), Use: "sig"})
		}
		s.mu.Unlock()
		if raw != nil {
			s.answer(w, json.RawMessage(raw))
			return
		}
		s.answer(w, set)
	})
	s.Server = httptest.NewTLSServer(mux)
	tb.Cleanup(s.Close)
	s.Rotate(tb, false, jose.RS256)
	return s
}

func (s *Server) answer(w http.ResponseWriter, body any) {
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		http.Error(w, "fault", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // it goes to a client that may have gone
}

// Down makes the provider fail, or work again.
func (s *Server) Down(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Fetches is how often the keys were asked for.
func (s *Server) Fetches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetches
}

// Serve gives out a text in place of the keys.
func (s *Server) Serve(jwks string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jwks = []byte(jwks)
}

// Rotate makes a new key, which signs from now on, and leaves the old ones or not.
func (s *Server) Rotate(tb testing.TB, keep bool, algorithm jose.SignatureAlgorithm) Key {
	tb.Helper()
	key := MakeKey(tb, algorithm)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	key.Name = "key-" + strconv.Itoa(s.made)
	if !keep {
		s.keys = nil
	}
	s.keys = append(s.keys, key)
	return key
}

// Unnamed takes the names from the keys.
func (s *Server) Unnamed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := range s.keys {
		s.keys[at].Name = ""
	}
}

// MakeKey makes a key that is no provider's.
func MakeKey(tb testing.TB, algorithm jose.SignatureAlgorithm) Key {
	tb.Helper()
	var private crypto.Signer
	var err error
	if algorithm == jose.ES256 {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	require.NoError(tb, err)
	return Key{Algorithm: algorithm, Private: private}
}

// Claims are those of an ID token for an audience.
func (s *Server) Claims(audience string) Object {
	now := time.Now()
	return Object{
		"iss": s.URL, "sub": "alice", "aud": audience, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": "token-1",
	}
}

// Sign signs claims with the newest key.
func (s *Server) Sign(tb testing.TB, claims Object) string {
	tb.Helper()
	s.mu.Lock()
	key := s.keys[len(s.keys)-1]
	s.mu.Unlock()
	return key.Sign(tb, claims, "")
}

// Sign signs claims with a key, and says what type of token it is.
func (k Key) Sign(tb testing.TB, claims Object, kind string) string {
	tb.Helper()
	options := &jose.SignerOptions{}
	if kind != "" {
		options.WithType(jose.ContentType(kind))
	}
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: k.Algorithm, Key: jose.JSONWebKey{Key: k.Private, KeyID: k.Name},
	}, options)
	require.NoError(tb, err)
	payload, err := json.Marshal(claims)
	require.NoError(tb, err)
	signed, err := signer.Sign(payload)
	require.NoError(tb, err)
	token, err := signed.CompactSerialize()
	require.NoError(tb, err)
	return token
}
