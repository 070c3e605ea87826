// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// ErrUnauthenticated is what an Authenticator returns, with the reason around it,
// when it can tell that the caller is nobody it knows. Any other error means that
// it cannot tell.
var ErrUnauthenticated = errors.New("not authenticated")

// Authenticator names the caller of a request. The name is what the plugin gets.
// It MUST be safe in a header (printable ASCII).
type Authenticator func(*http.Request) (name string, err error)

func anyone(*http.Request) (string, error) { return "", nil }

// AnyOf asks each method in turn; the first that knows the caller names it.
func AnyOf(methods ...Authenticator) Authenticator {
	return func(r *http.Request) (string, error) {
		var denials, doubts []error
		for _, method := range methods {
			name, err := method(r)
			switch {
			case err == nil && isName(name):
				return name, nil
			case err == nil:
				denials = append(denials, fmt.Errorf("%w: the name is empty or holds characters beyond printable ASCII", ErrUnauthenticated))
			case errors.Is(err, ErrUnauthenticated):
				denials = append(denials, err)
			default:
				doubts = append(doubts, err)
			}
		}
		if len(doubts) > 0 {
			return "", errors.Join(doubts...)
		}
		return "", errors.Join(append(denials, ErrUnauthenticated)...)
	}
}

// ClientCertificate names the caller by the common name of its verified
// certificate, or by its first DNS name when it has none.
func ClientCertificate(r *http.Request) (string, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "", fmt.Errorf("%w: no client certificate", ErrUnauthenticated)
	}
	certificate := r.TLS.VerifiedChains[0][0]
	if certificate.Subject.CommonName != "" {
		return certificate.Subject.CommonName, nil
	}
	if len(certificate.DNSNames) > 0 {
		return certificate.DNSNames[0], nil
	}
	return "", fmt.Errorf("%w: the client certificate holds no name", ErrUnauthenticated)
}

// bearer is the request's bearer token. Upstream's virtual kubelet sends an empty
// one when its token file is empty, which is the same as none.
func bearer(r *http.Request) (string, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", fmt.Errorf("%w: no bearer token", ErrUnauthenticated)
	}
	return token, nil
}
