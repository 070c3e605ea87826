// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// shape is what a token looks like. Looking costs nothing that anybody else has to pay.
type shape string

const (
	shapeNone     shape = "none"
	shapeKeystone shape = "keystone"
	shapeJWT      shape = "jwt"
)

const (
	longestKeystone = 4 << 10
	longestJWT      = 16 << 10

	// fernetPrefix are the version and the first bytes of a time before the year 2242.
	fernetPrefix  = "gAAAA"
	fernetVersion = 0x80
	// shortestFernet has version, time, initialization vector, one block and signature.
	shortestFernet = 1 + 8 + 16 + 16 + 32
	uuidLength     = 32
)

// shapeOf tells who may know about a token.
func (h *Handler) shapeOf(token string) shape {
	switch {
	case strings.Count(token, ".") == 2 && len(token) <= longestJWT && urlSafe(token):
		if h.cfg.KeystoneJWS && len(token) <= longestKeystone && isKeystoneJWS(token) {
			return shapeKeystone
		}
		return shapeJWT
	case len(token) > longestKeystone:
		return shapeNone
	case isFernet(token), h.cfg.KeystoneUUID && isUUID(token):
		return shapeKeystone
	default:
		return shapeNone
	}
}

// urlSafe tells that there are no other characters than those of JSON Web Tokens.
func urlSafe(token string) bool {
	for _, r := range token {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' {
			return false
		}
	}
	return true
}

func isFernet(token string) bool {
	if !strings.HasPrefix(token, fernetPrefix) {
		return false
	}
	// Keystone gives tokens without padding, and accepts them with it. The decoder would
	// overlook line ends, which a header cannot have.
	token = strings.TrimRight(token, "=")
	if !urlSafe(token) {
		return false
	}
	data, err := base64.RawURLEncoding.DecodeString(token)
	return err == nil && len(data) >= shortestFernet && data[0] == fernetVersion
}

func isUUID(token string) bool {
	if len(token) != uuidLength {
		return false
	}
	for _, r := range token {
		if (r < 'a' || r > 'f') && (r < '0' || r > '9') {
			return false
		}
	}
	return true
}

// isKeystoneJWS tells Keystone's signed tokens, which name no issuer, from all others.
func isKeystoneJWS(token string) bool {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	data, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return false
	}
	var claims struct {
		Issuer  string   `json:"iss"`
		Methods []string `json:"openstack_methods"`
	}
	return json.Unmarshal(data, &claims) == nil && claims.Issuer == "" && len(claims.Methods) > 0
}
