// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"net/http"
	"strings"
)

// Operation tells in one word what a request of the protocol asks for, on either connection. Paths that callers choose
// become "other", so that it can be a metric's label.
func Operation(r *http.Request) string {
	path := r.URL.Path
	switch path {
	case PathPing:
		return "ping"
	case PathCreate, PathStatus, PathDelete:
		return strings.TrimPrefix(path, "/")
	case PathLogs:
		return "logs"
	case PathUpdateCache:
		return "updatecache"
	case PathWatch:
		return "watch"
	case PathStats:
		return "stats"
	}
	if _, kind, ok := ParsePodStreamPath(path); ok {
		return string(kind)
	}
	if _, ok := ParsePodUpdatePath(path); ok {
		return "update"
	}
	if uid, found := strings.CutPrefix(path, pathPods); found && strings.HasSuffix(uid, "/ephemeralcontainers") {
		return "ephemeral"
	}
	return "other"
}
