// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cloudveneto/caas/internal/bench"
)

const mebibyte = 1 << 20

// times are of requests of one kind.
type times []time.Duration

// at is the p-th percentile (0 to 100) by the nearest rank, in milliseconds; NaN without values.
func (t times) at(p float64) float64 {
	return bench.Percentile(t, p, time.Millisecond)
}

// timed adds the time that one takes.
func (t *times) timed(one func() error) error {
	began := time.Now()
	err := one()
	*t = append(*t, time.Since(began))
	return err
}

// add reports median and 99th percentile.
func (t times) add(report *bench.Report, name string) {
	report.Add(name+": p50", t.at(50), "ms", bench.Lower)
	report.Add(name+": p99", t.at(99), "ms", bench.Lower)
}

// steadily calls ask so many times per second, however long each takes, and returns the times from when each was due.
// ask is called from many goroutines.
func steadily(ctx context.Context, rate int, period time.Duration, ask func(ctx context.Context, n int) error) (times, error) {
	const waiting = 64
	total, every := int(period.Seconds()*float64(rate)), time.Second/time.Duration(rate)
	type due struct {
		n  int
		at time.Time
	}
	queue := make(chan due, total)
	var mu sync.Mutex
	var all times
	var failure error
	var asking sync.WaitGroup
	for range waiting {
		asking.Go(func() {
			for one := range queue {
				err := ask(ctx, one.n)
				took := time.Since(one.at)
				mu.Lock()
				all = append(all, took)
				if failure == nil {
					failure = err
				}
				mu.Unlock()
			}
		})
	}
	ticker, began := time.NewTicker(max(every, time.Millisecond)), time.Now()
	defer ticker.Stop()
	for made := 0; made < total && ctx.Err() == nil; {
		for ; made < total && time.Since(began) >= time.Duration(made)*every; made++ {
			queue <- due{made, began.Add(time.Duration(made) * every)}
		}
		<-ticker.C
	}
	close(queue)
	asking.Wait()
	return all, failure
}

// post sends a review and reads the answer.
func post(ctx context.Context, client *http.Client, url string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	return send(client, request)
}

func send(client *http.Client, request *http.Request) ([]byte, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s %s: %s: %s", request.Method, request.URL, response.Status, answer)
	}
	return answer, err
}

func scrape(ctx context.Context, client *http.Client, address string) (bench.Exposition, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	text, err := send(client, request)
	if err != nil {
		return nil, err
	}
	return bench.ParseExposition(string(text))
}

// resident is the memory of a process, in bytes.
func resident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kib); err == nil {
			return kib * 1024, nil
		}
	}
	return 0, fmt.Errorf("memory of process %d: not told", pid)
}
