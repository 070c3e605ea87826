// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// maxText bounds what is repeated of OpenStack's words.
const maxText = 500

// The words by which OpenStack's services tell refusals apart whose codes are the same,
// or differ from release to release.
var (
	rateWords      = regexp.MustCompile(`(?i)rate[- ]limit`)
	ambiguousWords = regexp.MustCompile(`(?i)multiple (possible )?\w+( \w+)? (found|match)|more than one .* (found|match|exists)|is ambiguous`)
)

// refusal makes an error of a class.
func refusal(class cloud.Class, err error, format string, values ...any) error {
	return &cloud.Error{Class: class, Message: fmt.Sprintf(format, values...), Err: err}
}

// explain makes a *cloud.Error of any error of an attempt to do what.
func explain(what string, err error) error {
	if known, ok := errors.AsType[*cloud.Error](err); ok {
		return known
	}
	if renewal, ok := errors.AsType[*gophercloud.ErrUnableToReauthenticate](err); ok {
		return explain(what, renewal.ErrReauth)
	}
	if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return explainAnswer(what, answer)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return refusal(cloud.Unavailable, err, "Cannot %s: OpenStack did not answer in time", what)
	case errors.Is(err, context.Canceled):
		return refusal(cloud.Unavailable, err, "Cannot %s: interrupted", what)
	case untrusted(err):
		return refusal(cloud.Unavailable, err, "Cannot %s: OpenStack's certificate is not trusted", what)
	default:
		return refusal(cloud.Unavailable, err, "Cannot %s: OpenStack does not answer sensibly: %s", what, short(err.Error()))
	}
}

func explainAnswer(what string, answer gophercloud.ErrUnexpectedResponseCode) error {
	text := words(answer.Body)
	return &cloud.Error{
		Class:      Classify(answer.Method, answer.Actual, text),
		Message:    fmt.Sprintf("Cannot %s: %s", what, either(text, fmt.Sprintf("OpenStack answered %d", answer.Actual))),
		RetryAfter: retryAfter(answer.Actual, answer.ResponseHeader),
		Err:        answer,
	}
}

// Classify is the class of an answer that is no success, from its code and its text,
// for any of OpenStack's services: over quota is 403 in Nova, 409 in Neutron and 413
// in Cinder.
func Classify(method string, code int, text string) cloud.Class {
	quota := cloud.OverQuota(text)
	switch code {
	case http.StatusUnauthorized:
		return cloud.CredentialsInvalid
	case http.StatusForbidden:
		if quota {
			return cloud.QuotaExceeded
		}
		return cloud.OwnerAuthorizationLost
	case http.StatusRequestEntityTooLarge:
		if rateWords.MatchString(text) && !quota {
			return cloud.Throttled
		}
		return cloud.QuotaExceeded
	case http.StatusTooManyRequests:
		return cloud.Throttled
	case http.StatusServiceUnavailable:
		if method == http.MethodGet {
			return cloud.Throttled
		}
		return cloud.Unavailable
	case http.StatusNotFound:
		return cloud.NotFound
	case http.StatusBadRequest, http.StatusConflict:
		return classifyRequest(code, text, quota)
	}
	if code >= http.StatusInternalServerError {
		return cloud.Unavailable
	}
	return cloud.Unclassified
}

func classifyRequest(code int, text string, quota bool) cloud.Class {
	switch {
	case quota:
		return cloud.QuotaExceeded
	case ambiguousWords.MatchString(text):
		return cloud.AmbiguousReference
	case code == http.StatusBadRequest:
		return cloud.InvalidSpec
	default:
		return cloud.Unclassified
	}
}

func codeOf(err error) int {
	if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return answer.Actual
	}
	return 0
}

// words are what a body says to people. Nova has {"forbidden": {"message": …}},
// Neutron {"NeutronError": {"type": …, "message": …}}, Keystone {"error": {…}}; proxies
// and Glance have HTML or plain text.
func words(body []byte) string {
	var envelope map[string]json.RawMessage
	if json.Unmarshal(body, &envelope) == nil {
		for _, raw := range envelope {
			if text := message(raw); text != "" {
				return short(text)
			}
		}
		return short(message(body))
	}
	text := string(body)
	if strings.Contains(text, "<") {
		text = regexp.MustCompile(`(?s)<(head|style|script).*?</(head|style|script)>|<[^>]*>`).ReplaceAllString(text, " ")
	}
	return short(strings.Join(strings.Fields(text), " "))
}

func message(raw []byte) string {
	var said struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	if json.Unmarshal(raw, &said) != nil {
		return ""
	}
	// Neutron's sentence about a quota need not have the word.
	if said.Type == "OverQuota" && !cloud.OverQuota(said.Message) {
		return "Quota exceeded: " + said.Message
	}
	return said.Message
}

func short(text string) string {
	text = strings.ToValidUTF8(strings.TrimSpace(text), "")
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}
