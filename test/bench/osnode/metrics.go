// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
)

const mebibyte = 1 << 20

// exposition is what a program says about itself: values by series, in Prometheus' form.
type exposition map[string]float64

func parse(text string) (exposition, error) {
	all := exposition{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		all[line[:max(at, 0)]] = value
	}
	return all, nil
}

// sum adds the series of a name whose labels have all of with and none of without.
func (e exposition) sum(name string, with, without []string) float64 {
	var total float64
	for series, value := range e {
		labels, found := strings.CutPrefix(series, name)
		if !found || labels != "" && labels[0] != '{' {
			continue
		}
		has := func(label string) bool { return strings.Contains(labels, label) }
		if !slices.ContainsFunc(without, has) && !slices.ContainsFunc(with, func(label string) bool { return !has(label) }) {
			total += value
		}
	}
	return total
}

// requests is how many requests an API server has answered since before; watches go on.
func requests(after, before exposition) float64 {
	count := func(e exposition) float64 { return e.sum("apiserver_request_total", nil, []string{`verb="WATCH"`}) }
	return count(after) - count(before)
}

// growth is how much the series of a name have grown since before, by the values of labels.
func (e exposition) growth(before exposition, name string, labels ...string) map[string]float64 {
	grown := map[string]float64{}
	for series, value := range e {
		if !strings.HasPrefix(series, name+"{") {
			continue
		}
		var key []string
		for _, label := range labels {
			_, rest, _ := strings.Cut(series, label+`="`)
			text, _, _ := strings.Cut(rest, `"`)
			key = append(key, text)
		}
		grown[strings.TrimSpace(strings.Join(key, " "))] += value - before[series]
	}
	return grown
}

// quantile estimates a quantile of a histogram as Prometheus does: linearly within a bucket.
func (e exposition) quantile(name string, q float64) float64 {
	type bucket struct{ bound, count float64 }
	var buckets []bucket
	for series, count := range e {
		_, labels, _ := strings.Cut(series, name+`_bucket{le="`)
		if bound, err := strconv.ParseFloat(strings.TrimSuffix(labels, `"}`), 64); err == nil {
			buckets = append(buckets, bucket{bound, count})
		}
	}
	slices.SortFunc(buckets, func(a, b bucket) int { return int(math.Copysign(1, a.bound-b.bound)) })
	if len(buckets) == 0 || buckets[len(buckets)-1].count == 0 {
		return math.NaN()
	}
	rank, lower, below := q*buckets[len(buckets)-1].count, 0.0, 0.0
	for _, one := range buckets {
		if one.count >= rank {
			if math.IsInf(one.bound, 1) {
				return lower
			}
			return lower + (one.bound-lower)*(rank-below)/(one.count-below)
		}
		lower, below = one.bound, one.count
	}
	return lower
}

// percentile is the p-th percentile (0 to 100) by the nearest rank, in seconds; NaN without values.
func percentile(values []time.Duration, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1].Seconds()
}

// apiServer is what the API server says about itself.
func (w *world) apiServer(ctx context.Context) (exposition, error) {
	set, err := kubernetes.NewForConfig(w.config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	body, err := set.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("metrics of the API server: %w", err)
	}
	return parse(string(body))
}
