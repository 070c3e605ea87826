// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"
)

const (
	headerAuthorization = "Authorization"
	headerProtocol      = "Sec-WebSocket-Protocol"
	// bearerProtocol is how browsers give a token to the API server, since they cannot set headers of WebSockets.
	bearerProtocol = "base64url.bearer.authorization.k8s.io." //nolint:gosec // a protocol's name, no credential
	// longestToken is more than any identity provider's.
	longestToken = 32 << 10
)

// bearer is the token of a request, as the API server will find it; empty if there is none, or not only one.
func bearer(header http.Header) string {
	switch values := header.Values(headerAuthorization); len(values) {
	case 0:
		return protocolToken(header)
	case 1:
		scheme, token, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
		token, _, _ = strings.Cut(token, " ")
		if !strings.EqualFold(scheme, "bearer") || len(token) > longestToken {
			return ""
		}
		return token
	default:
		return ""
	}
}

func protocolToken(header http.Header) string {
	found := ""
	for _, line := range header.Values(headerProtocol) {
		for protocol := range strings.SplitSeq(line, ",") {
			encoded, is := strings.CutPrefix(strings.TrimSpace(protocol), bearerProtocol)
			if !is {
				continue
			}
			token, err := base64.RawURLEncoding.DecodeString(encoded)
			if err != nil || found != "" || len(token) > longestToken || !utf8.Valid(token) || !oneLine(string(token)) {
				return ""
			}
			found = string(token)
		}
	}
	return found
}

// oneLine tells a text that a header can hold.
func oneLine(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

const impersonation = "Impersonate-"

// impersonates tells that a request is to be answered as if somebody else had sent it. Only the API server knows
// whether it will be.
func impersonates(header http.Header) bool {
	for name := range header {
		if strings.HasPrefix(name, impersonation) {
			return true
		}
	}
	return false
}
