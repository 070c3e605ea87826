// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/cloudveneto/caas/osnode/cloud"
)

const (
	// attempts are all tries of a request that may be repeated.
	attempts = 4
	// firstBackoff doubles with each try.
	firstBackoff = 200 * time.Millisecond
)

// repeated repeats what has no effect when it is done twice. Above all it never
// repeats the POST that creates a server: Nova may have done it although it says 503,
// and would do it again.
type repeated struct{ next http.RoundTripper }

func (t *repeated) RoundTrip(request *http.Request) (*http.Response, error) {
	if !repeatable(request) {
		return t.next.RoundTrip(request)
	}
	for attempt := 1; ; attempt++ {
		again, err := fresh(request)
		if err != nil {
			return nil, err
		}
		answer, err := t.next.RoundTrip(again)
		if attempt == attempts || !stumbled(answer, err) {
			return answer, err
		}
		wait := firstBackoff << (attempt - 1)
		wait += rand.N(wait / 2) //nolint:gosec // jitter needs no secrecy
		if answer != nil {
			wait = max(wait, retryAfter(answer.StatusCode, answer.Header))
			if wait > patience {
				return answer, nil
			}
			_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16)) // only to use the connection again
			_ = answer.Body.Close()
		}
		if pause(request.Context(), wait) != nil {
			return nil, request.Context().Err()
		}
	}
}

// repeatable tells that doing the request twice is as good as once. A login makes a
// token more, which harms nobody.
func repeatable(request *http.Request) bool {
	switch request.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete:
		return true
	case http.MethodPost:
		return strings.HasSuffix(request.URL.Path, "/auth/tokens") && request.GetBody != nil
	default:
		return false
	}
}

// fresh is the request with an unread body.
func fresh(request *http.Request) (*http.Request, error) {
	again := request.Clone(request.Context())
	if request.GetBody == nil {
		return again, nil
	}
	body, err := request.GetBody()
	if err != nil {
		return nil, err
	}
	again.Body = body
	return again, nil
}

// stumbled tells that the next try may do better.
func stumbled(answer *http.Response, err error) bool {
	if err != nil {
		var refused *cloud.Error
		return !errors.As(err, &refused) && !untrusted(err)
	}
	switch answer.StatusCode {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
}
