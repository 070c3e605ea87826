// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
)

// requests counts the requests to an API server by what they were: "PATCH pods/status".
type requests map[string]float64

// requestsOf reads the requests from what an API server says about itself, without watches, and without the heart-beats
// that come as time passes, whatever pods do.
func requestsOf(all Exposition) requests {
	label := regexp.MustCompile(`(\w+)="([^"]*)"`)
	counted := requests{}
	for series, value := range all {
		labels, found := strings.CutPrefix(series, "apiserver_request_total{")
		if !found {
			continue
		}
		what := map[string]string{}
		for _, pair := range label.FindAllStringSubmatch(labels, -1) {
			what[pair[1]] = pair[2]
		}
		if what["verb"] == "WATCH" || what["resource"] == "leases" {
			continue
		}
		key := what["verb"] + " " + what["resource"]
		if part := what["subresource"]; part != "" {
			key += "/" + strings.TrimPrefix(part, "/")
		}
		counted[key] += value
	}
	return counted
}

// since is what came after before.
func (r requests) since(before requests) requests {
	grown := maps.Clone(r)
	for key, value := range before {
		grown[key] -= value
	}
	return grown
}

func (r requests) total() float64 {
	var sum float64
	for _, value := range r {
		sum += value
	}
	return sum
}

// reads are those that ask for pods. Whoever polls sends such.
func (r requests) reads() float64 { return r["GET pods"] + r["LIST pods"] }

// most names the requests of which there was one to ten lives of n, or more; the most frequent first.
func (r requests) most(n int) string {
	each := func(key string) float64 { return r[key] / float64(n) }
	keys := slices.DeleteFunc(slices.Collect(maps.Keys(r)), func(key string) bool { return math.Abs(each(key)) < 0.1 })
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(each(b), each(a)), cmp.Compare(a, b)) })
	for i, key := range keys {
		keys[i] = fmt.Sprintf("%s %.1f", key, each(key))
	}
	return strings.Join(keys, ", ")
}
