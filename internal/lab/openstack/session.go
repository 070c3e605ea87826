// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	callTimeout = 2 * time.Minute
	// computeVersion is Nova's API as it is asked for here: late enough for tags and descriptions.
	computeVersion = "compute 2.79"
	longestAnswer  = 16 << 20
)

// StatusError is an answer of a service that is a refusal.
type StatusError struct {
	Method, URL string
	Status      int
	// Body is what the service said.
	Body string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: status %d: %s", e.Method, e.URL, e.Status, strings.TrimSpace(e.Body))
}

// StatusOf is the status of a refusal, and 0 for every other error.
func StatusOf(err error) int {
	if refusal, ok := errors.AsType[*StatusError](err); ok {
		return refusal.Status
	}
	return 0
}

// Session is a token and what can be done with it. It is safe for concurrent use, and ends with its token.
type Session struct {
	// UserID and ProjectID are whom and where the token is for: with a trust, the trustor.
	UserID, ProjectID string
	// Token is the token itself.
	Token string

	client    *http.Client
	endpoints map[string]string
}

// authentication is the part of a request for a token that says who asks, and for what.
type authentication struct {
	user, userID, password string
	// project, projectID or trust is what the token is for.
	project, projectID, trust string
}

type object = map[string]any

func (a authentication) body() object {
	domain := object{"name": "Default"}
	user := object{"name": a.user, "domain": domain, "password": a.password}
	if a.userID != "" {
		user = object{"id": a.userID, "password": a.password}
	}
	auth := object{"identity": object{"methods": []string{"password"}, "password": object{"user": user}}}
	switch {
	case a.trust != "":
		auth["scope"] = object{"OS-TRUST:trust": object{"id": a.trust}}
	case a.projectID != "":
		auth["scope"] = object{"project": object{"id": a.projectID}}
	case a.project != "":
		auth["scope"] = object{"project": object{"name": a.project, "domain": domain}}
	}
	return object{"auth": auth}
}

// login asks the Keystone at url for a token.
func login(ctx context.Context, client *http.Client, url string, who authentication) (*Session, error) {
	session := &Session{client: client, endpoints: map[string]string{"identity": url}}
	var answer struct {
		Token struct {
			User    struct{ ID string }
			Project struct{ ID string }
			Catalog []struct {
				Type      string
				Endpoints []struct{ Interface, URL string }
			}
		}
	}
	header, err := session.call(ctx, http.MethodPost, "identity", "/auth/tokens", who.body(), &answer)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	session.Token = header.Get("X-Subject-Token")
	session.UserID, session.ProjectID = answer.Token.User.ID, answer.Token.Project.ID
	for _, service := range answer.Token.Catalog {
		for _, endpoint := range service.Endpoints {
			if endpoint.Interface == "public" && service.Type != "identity" {
				session.endpoints[service.Type] = strings.TrimSuffix(endpoint.URL, "/")
			}
		}
	}
	return session, nil
}

// Endpoint is a service's URL in the catalog, such as that of "compute"; empty if there is none.
func (s *Session) Endpoint(service string) string { return s.endpoints[service] }

// Do calls a service by its type: identity, compute, network, image or placement. The path begins after the endpoint's
// URL. in, when not nil, is sent as JSON, or as it is if it is an io.Reader; the answer is decoded into out, when that is
// not nil. A refusal is a *StatusError.
func (s *Session) Do(ctx context.Context, method, service, path string, in, out any) error {
	_, err := s.call(ctx, method, service, path, in, out)
	return err
}

func (s *Session) call(ctx context.Context, method, service, path string, in, out any) (http.Header, error) {
	endpoint, known := s.endpoints[service]
	if !known {
		return nil, fmt.Errorf("the catalog has no service %q", service)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, contentType, err := encode(in)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, endpoint+path, body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if s.Token != "" {
		request.Header.Set("X-Auth-Token", s.Token)
	}
	if service == "compute" {
		request.Header.Set("OpenStack-API-Version", computeVersion)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(answer.Body, longestAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, request.URL, err)
	}
	if answer.StatusCode/100 != 2 {
		return nil, &StatusError{Method: method, URL: request.URL.String(), Status: answer.StatusCode, Body: string(data)}
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			return nil, fmt.Errorf("%s %s: decode answer: %w", method, request.URL, err)
		}
	}
	return answer.Header, nil
}

func encode(in any) (body io.Reader, contentType string, err error) {
	switch in := in.(type) {
	case nil:
		return http.NoBody, "", nil
	case io.Reader:
		return in, "application/octet-stream", nil
	default:
		data, err := json.Marshal(in)
		return bytes.NewReader(data), "application/json", err
	}
}

// resource is what most services say of what they have.
type resource struct{ ID, Name string }

// ensure finds the one resource that the list at path has under the name, or makes it. The list and what is made are in
// JSON under plural and singular.
func (s *Session) ensure(ctx context.Context, service, path, query, plural, singular string, wanted object) (id string, err error) {
	name, _ := wanted["name"].(string)
	list := map[string]json.RawMessage{}
	if err := s.Do(ctx, http.MethodGet, service, path+query, nil, &list); err != nil {
		return "", err
	}
	var found []resource
	if err := json.Unmarshal(list[plural], &found); err != nil {
		return "", fmt.Errorf("decode %s: %w", plural, err)
	}
	for _, one := range found {
		if one.Name == name {
			return one.ID, nil
		}
	}
	made := map[string]resource{}
	if err := s.Do(ctx, http.MethodPost, service, path, object{singular: wanted}, &made); err != nil {
		return "", fmt.Errorf("create %s %q: %w", singular, name, err)
	}
	return made[singular].ID, nil
}
