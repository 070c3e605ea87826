// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/bench"
)

const mebibyte = 1 << 20

// requests is how many requests an API server has answered since before; watches go on.
func requests(after, before bench.Exposition) float64 {
	count := func(e bench.Exposition) float64 {
		return e.Sum("apiserver_request_total", nil, []string{`verb="WATCH"`})
	}
	return count(after) - count(before)
}

// growth is how much the series of a name have grown since before, by the values of labels.
func growth(after, before bench.Exposition, name string, labels ...string) map[string]float64 {
	grown := map[string]float64{}
	for series, value := range after {
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

// apiServer is what the API server says about itself.
func (w *world) apiServer(ctx context.Context) (bench.Exposition, error) {
	set, err := kubernetes.NewForConfig(w.config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	body, err := set.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("metrics of the API server: %w", err)
	}
	return bench.ParseExposition(string(body))
}
