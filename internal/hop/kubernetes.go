// SPDX-License-Identifier: Apache-2.0

package hop

import (
	"net/http"
	"strings"
)

// other is what requests do that have no better name.
const other = "other"

// Kubernetes is the Naming of requests to an API server: verb and resource, as in "create pods" or "patch pods/status".
func Kubernetes(r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch { // see k8s.io/apiserver/pkg/endpoints/request/requestinfo.go
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return other
	}
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
		parts = parts[2:]
	}
	resource := parts[0]
	if len(parts) > 2 {
		resource += "/" + parts[2]
	}
	return verb(r, len(parts) > 1) + " " + resource
}

// verb is what a request does with a resource, or with one object of it.
func verb(r *http.Request, named bool) string {
	switch r.Method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if named {
			return "delete"
		}
		return "deletecollection"
	case http.MethodGet, http.MethodHead:
		switch watch := r.URL.Query().Get("watch"); {
		case watch == "true" || watch == "1":
			return "watch"
		case named:
			return "get"
		}
		return "list"
	}
	return other
}
