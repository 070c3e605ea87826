// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package labtest

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TokenClaims is the part of a ServiceAccount token that tests look at.
type TokenClaims struct {
	Audience []string `json:"aud"`
	Subject  string   `json:"sub"`
	// Issued and Expires are seconds since 1970.
	Issued     float64 `json:"iat"`
	Expires    float64 `json:"exp"`
	Kubernetes struct {
		Pod struct {
			UID string `json:"uid"`
		} `json:"pod"`
	} `json:"kubernetes.io"`
}

// Claims reads a ServiceAccount token. Nobody checks its signature.
func Claims(t *testing.T, token string) TokenClaims {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3, "a JWT")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var claims TokenClaims
	require.NoError(t, json.Unmarshal(payload, &claims))
	return claims
}
