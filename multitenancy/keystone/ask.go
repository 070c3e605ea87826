// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	tokensPath = "/auth/tokens" //nolint:gosec // an address, no credential
	headerAuth = "X-Auth-Token"
	// headerSubject has the token that is asked about, and the one that is given out.
	headerSubject = "X-Subject-Token"
	longestAnswer = 1 << 20
)

var (
	// errRetry marks what a second try may mend.
	errRetry = errors.New("keystone is not available")
	// errBusy is Keystone's wish not to be asked for a while.
	errBusy = errors.New("keystone asks to be asked less")
	// errLogin marks failures that are the service user's, whom a password that is tried over and over would lock out.
	errLogin = errors.New("log the service user in")
)

// answered tells that Keystone has said something of the token, if only that it does not understand. Of others it will, too:
// nobody can have it left alone by asking what is odd.
func answered(err error) bool {
	for _, silence := range []error{errRetry, errBusy, errLogin, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, silence) {
			return false
		}
	}
	return true
}

// ask asks Keystone about a token, and once more if it does not answer.
func (v *Verifier) ask(ctx context.Context, subject string) (token, error) {
	found, err := v.try(ctx, subject)
	if errors.Is(err, errRetry) && ctx.Err() == nil {
		found, err = v.try(ctx, subject)
	}
	return found, err
}

func (v *Verifier) try(ctx context.Context, subject string) (token, error) {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Limits.Timeout)
	defer cancel()
	asker, err := v.asker(ctx, subject)
	if err != nil {
		return token{}, err
	}
	// Each question has headers of its own: a shared client that is told whose token to send would mix them up.
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.cfg.AuthURL+tokensPath+"?nocatalog", http.NoBody)
	if err != nil {
		return token{}, fmt.Errorf("ask keystone: %w", err)
	}
	request.Header.Set(headerAuth, asker)
	request.Header.Set(headerSubject, subject)
	request.Header.Set("Accept", "application/json")
	answer, err := v.client.Do(request)
	if err != nil {
		return token{}, fmt.Errorf("ask keystone: %w: %w", errRetry, err)
	}
	defer func() { _ = answer.Body.Close() }()
	// The answer to a question that was given up while it arrived says nothing: a server that is told of it ends with
	// what it has.
	if ctx.Err() != nil {
		return token{}, fmt.Errorf("ask keystone: %w: %w", errRetry, ctx.Err())
	}
	if answer.StatusCode != http.StatusOK {
		return token{}, v.classify(answer.StatusCode)
	}
	found, err := decode(answer.Body)
	if err != nil && ctx.Err() != nil { // it was given up in the middle of the answer
		return token{}, fmt.Errorf("ask keystone: %w: %w", errRetry, ctx.Err())
	}
	return found, err
}

// asker is the token that the question is asked with.
func (v *Verifier) asker(ctx context.Context, subject string) (string, error) {
	if v.service == nil {
		return subject, nil
	}
	return v.service.token(ctx)
}

// classify says what an answer means that is not the token.
func (v *Verifier) classify(status int) error {
	switch {
	case status == http.StatusNotFound, status == http.StatusUnauthorized && v.service == nil:
		return tenant.Refuse(ReasonUnknown, "keystone does not know the token (%d)", status)
	case status == http.StatusForbidden && v.service == nil:
		return tenant.Refuse(ReasonForbidden, "keystone's policy does not let the token be asked about with itself")
	case status == http.StatusUnauthorized:
		v.service.forget()
		return fmt.Errorf("%w: the service user's token is not accepted", errRetry)
	case status == http.StatusForbidden:
		return errors.New("keystone does not let the service user validate tokens")
	case status == http.StatusTooManyRequests:
		return errBusy
	case status >= http.StatusInternalServerError:
		return fmt.Errorf("%w: status %d", errRetry, status)
	default:
		return fmt.Errorf("keystone answers with status %d, which is not its protocol", status)
	}
}

func decode(body io.Reader) (token, error) {
	data, err := io.ReadAll(io.LimitReader(body, longestAnswer+1))
	if err != nil {
		return token{}, fmt.Errorf("ask keystone: %w: %w", errRetry, err)
	}
	if len(data) > longestAnswer {
		return token{}, errors.New("keystone's answer is too long")
	}
	var answer struct {
		Token *token `json:"token"`
	}
	// Errors of decoding quote what they read, which is no secret, but not asked for either.
	if json.NewDecoder(bytes.NewReader(data)).Decode(&answer) != nil || answer.Token == nil {
		return token{}, errors.New("keystone's answer is not its protocol")
	}
	return *answer.Token, nil
}
