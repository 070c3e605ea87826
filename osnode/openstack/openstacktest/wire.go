// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// object is a JSON object.
type object = map[string]any

// isoTime is how most services write times.
const isoTime = "2006-01-02T15:04:05Z"

func stamp(at time.Time) string { return at.UTC().Format(isoTime) }

func reply(w http.ResponseWriter, code int, body any) {
	if body == nil {
		w.WriteHeader(code)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // the bodies are ours; the client may have gone
}

// read decodes a request's body into value, which is the part under key.
func read(r *http.Request, key string, value any) bool {
	var body map[string]json.RawMessage
	if json.NewDecoder(r.Body).Decode(&body) != nil {
		return false
	}
	raw, ok := body[key]
	return ok && json.Unmarshal(raw, value) == nil
}

// keystoneError is an error in Keystone's form.
func keystoneError(w http.ResponseWriter, code int, message string) {
	reply(w, code, object{"error": object{"code": code, "message": message, "title": http.StatusText(code)}})
}

func forbidden(w http.ResponseWriter, action string) {
	keystoneError(w, http.StatusForbidden, "You are not authorized to perform the requested action: "+action+".")
}

// novaError is an error in Nova's form.
func novaError(w http.ResponseWriter, code int, message string) {
	kinds := map[int]string{
		http.StatusBadRequest: "badRequest", http.StatusForbidden: "forbidden",
		http.StatusNotFound: "itemNotFound", http.StatusConflict: "conflictingRequest",
	}
	kind, ok := kinds[code]
	if !ok {
		kind = "computeFault"
	}
	reply(w, code, object{kind: object{"code": code, "message": message}})
}

// neutronError is an error in Neutron's form.
func neutronError(w http.ResponseWriter, code int, kind, message string) {
	reply(w, code, object{"NeutronError": object{"type": kind, "message": message, "detail": ""}})
}

// page is a part of a list, and the marker of the next one.
func page[T any](r *http.Request, all []T, id func(T) string) (part []T, next string) {
	query := r.URL.Query()
	if marker := query.Get("marker"); marker != "" {
		for i, one := range all {
			if id(one) == marker {
				all = all[i+1:]
				break
			}
		}
	}
	limit := 1000
	if asked, err := strconv.Atoi(query.Get("limit")); err == nil && asked > 0 {
		limit = min(asked, limit)
	}
	if len(all) <= limit {
		return all, ""
	}
	return all[:limit], id(all[limit-1])
}
