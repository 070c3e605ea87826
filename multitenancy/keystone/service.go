// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// renewBefore is how long before its end a service token is replaced.
const renewBefore = 5 * time.Minute

// service holds the service user's own token.
type service struct {
	credential Credential
	url        string
	client     *http.Client
	now        func() time.Time

	// login lets one ask for all who need a token. Whoever waits for it has a deadline.
	login chan struct{}

	mu      sync.Mutex
	current string
	expires time.Time
}

func newService(cfg *Config, client *http.Client) *service {
	return &service{credential: *cfg.Service, url: cfg.AuthURL + tokensPath, client: client, now: cfg.Now, login: make(chan struct{}, 1)}
}

// token is a usable token of the service user.
func (s *service) token(ctx context.Context) (string, error) {
	if known := s.usable(); known != "" {
		return known, nil
	}
	select {
	case s.login <- struct{}{}:
		defer func() { <-s.login }()
	case <-ctx.Done():
		return "", fmt.Errorf("%w: %w", errLogin, ctx.Err())
	}
	if known := s.usable(); known != "" {
		return known, nil
	}
	fresh, expires, err := s.request(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errLogin, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.expires = fresh, expires
	return fresh, nil
}

func (s *service) usable() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now().Add(renewBefore).Before(s.expires) {
		return s.current
	}
	return ""
}

// forget drops a token that Keystone does not accept any more.
func (s *service) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.expires = "", time.Time{}
}

func (s *service) request(ctx context.Context) (fresh string, expires time.Time, err error) {
	body, err := s.body()
	if err != nil {
		return "", time.Time{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"?nocatalog", bytes.NewReader(body))
	if err != nil {
		return "", time.Time{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(request)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("%w: %w", errRetry, err)
	}
	defer func() { _ = answer.Body.Close() }()
	var decoded struct {
		Token struct {
			Expires instant `json:"expires_at"`
		} `json:"token"`
	}
	fresh = answer.Header.Get(headerSubject)
	switch {
	case answer.StatusCode == http.StatusTooManyRequests:
		return "", time.Time{}, errBusy
	case answer.StatusCode >= http.StatusInternalServerError:
		return "", time.Time{}, fmt.Errorf("%w: status %d", errRetry, answer.StatusCode)
	}
	if answer.StatusCode != http.StatusCreated || fresh == "" {
		return "", time.Time{}, fmt.Errorf("keystone answers with status %d", answer.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, longestAnswer)).Decode(&decoded); err != nil {
		return "", time.Time{}, fmt.Errorf("decode keystone's answer: %w", err)
	}
	return fresh, decoded.Token.Expires.Time, nil
}

func (s *service) body() ([]byte, error) {
	type object = map[string]any
	password, err := s.credential.Password()
	if err != nil {
		return nil, err
	}
	domain := func(name string) object {
		if name == "" {
			return object{"id": "default"}
		}
		return object{"name": name}
	}
	return json.Marshal(object{"auth": object{
		"identity": object{"methods": []string{"password"}, "password": object{"user": object{
			"name": s.credential.UserName, "domain": domain(s.credential.UserDomain), "password": password,
		}}},
		"scope": object{"project": object{"name": s.credential.Project, "domain": domain(s.credential.ProjectDomain)}},
	}})
}
