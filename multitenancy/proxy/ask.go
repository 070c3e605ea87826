// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	askTimeout    = 10 * time.Second
	longestAnswer = 1 << 20
)

// answerError is an answer of the API server that is not 2xx.
type answerError struct{ code int }

func (e *answerError) Error() string { return fmt.Sprintf("the API server answered %d", e.code) }

// answered is the status code of an answer, or 0 if there was none.
func answered(err error) int {
	if refusal, ok := errors.AsType[*answerError](err); ok {
		return refusal.code
	}
	return 0
}

// asker asks the API server on a user's behalf, with the user's own token.
type asker struct {
	server    *url.URL
	transport http.RoundTripper
}

// ask sends body, if there is one, and reads the answer into result. An *answerError is an answer, too.
func (a asker) ask(ctx context.Context, token, method, path string, body, result any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	content := []byte{}
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, a.server.JoinPath(path).String(), bytes.NewReader(content))
	if err != nil {
		return err
	}
	request.Header.Set(headerAuthorization, "Bearer "+token)
	request.Header.Set("Accept", contentJSON)
	request.Header.Set("User-Agent", "kube-mt-proxy")
	if body != nil {
		request.Header.Set(headerContentType, contentJSON)
	}
	response, err := a.transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = response.Body.Close() }() // all of it that is wanted was read
	content, err = io.ReadAll(io.LimitReader(response.Body, longestAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, path, err)
	case response.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: %w", method, path, &answerError{response.StatusCode})
	}
	if err := json.Unmarshal(content, result); err != nil {
		return fmt.Errorf("%s %s: unexpected answer: %w", method, path, err)
	}
	return nil
}
