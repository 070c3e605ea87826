// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cloudveneto/caas/internal/logging"
)

// minToken is the shortest token accepted: 128 random bits in base64 are 22.
const minToken = 16

// Tokens authenticates by static bearer tokens from a file, one "token,name" per
// line; empty lines and lines that start with # do not count. The file is read
// again when it changes, so a token is revoked by removing its line.
type Tokens struct {
	file string

	mu      sync.Mutex
	checked time.Time
	content [sha256.Size]byte
	known   []knownToken
}

// knownToken holds the hash, so that the comparison takes the same time for
// every token and no token lies in memory longer than needed.
type knownToken struct {
	hash [sha256.Size]byte
	name string
}

// NewTokens reads the file for the first time.
func NewTokens(file string) (*Tokens, error) {
	t := &Tokens{file: file}
	if err := t.reload(); err != nil {
		return nil, err
	}
	return t, nil
}

// Authenticate is an Authenticator.
func (t *Tokens) Authenticate(r *http.Request) (string, error) {
	token, err := bearer(r)
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256([]byte(token))
	name := ""
	for _, known := range t.current(r.Context()) {
		if subtle.ConstantTimeCompare(known.hash[:], hash[:]) == 1 {
			name = known.name
		}
	}
	if name == "" {
		return "", fmt.Errorf("%w: unknown static token", ErrUnauthenticated)
	}
	return name, nil
}

// current returns the tokens, reading the small local file at most once a second.
// A file that cannot be used leaves the last tokens in force.
func (t *Tokens) current(ctx context.Context) []knownToken {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.checked) >= time.Second {
		if err := t.reload(); err != nil {
			logging.From(ctx).ErrorContext(ctx, "token file is unusable, keeping the old tokens", "error", err)
		}
	}
	return t.known
}

func (t *Tokens) reload() error {
	t.checked = time.Now()
	content, err := os.ReadFile(t.file) // the operator names the file
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	hash := sha256.Sum256(content)
	if t.known != nil && hash == t.content {
		return nil
	}
	known, err := parseTokens(string(content))
	if err != nil {
		return fmt.Errorf("token file %s: %w", t.file, err)
	}
	t.content, t.known = hash, known
	return nil
}

// parseTokens names lines by number only: their content is secret.
func parseTokens(content string) ([]knownToken, error) {
	known := []knownToken{}
	number := 0
	for line := range strings.Lines(content) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		token, name, found := strings.Cut(line, ",")
		token, name = strings.TrimSpace(token), strings.TrimSpace(name)
		if !found || !isName(token) || !isName(name) {
			return nil, fmt.Errorf("line %d: want token,name in printable ASCII", number)
		}
		if len(token) < minToken {
			return nil, fmt.Errorf("line %d: the token is shorter than %d characters", number, minToken)
		}
		known = append(known, knownToken{hash: sha256.Sum256([]byte(token)), name: name})
	}
	return known, nil
}
