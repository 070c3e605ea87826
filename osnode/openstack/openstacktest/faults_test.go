// SPDX-License-Identifier: Apache-2.0

package openstacktest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

// counter answers with how many requests it has had.
func counter(t *testing.T, faults *openstacktest.Faults) (address string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	server := httptest.NewServer(faults.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d%s", asked.Add(1), body)
	})))
	t.Cleanup(server.Close)
	return server.URL, asked
}

func send(t *testing.T, method, address, body string) (int, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	require.NoError(t, err)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

func TestFaults(t *testing.T) {
	t.Parallel()
	unavailable := &openstacktest.Answer{Status: 503, Header: http.Header{"Retry-After": {"1"}}, Body: "no"}
	for name, test := range map[string]struct {
		rule   openstacktest.Rule
		status int
		text   string
		asked  int64
		broken bool
	}{
		"nothing":          {status: 200, text: "1x", asked: 1},
		"another method":   {rule: openstacktest.Rule{Match: openstacktest.Match{Method: "GET"}, Cut: true}, status: 200, text: "1x", asked: 1},
		"another path":     {rule: openstacktest.Rule{Match: openstacktest.Match{Path: "^/other"}, Cut: true}, status: 200, text: "1x", asked: 1},
		"no expression":    {rule: openstacktest.Rule{Match: openstacktest.Match{Path: "("}, Cut: true}, status: 200, text: "1x", asked: 1},
		"another body":     {rule: openstacktest.Rule{Match: openstacktest.Match{Body: func(b []byte) bool { return bytes.Equal(b, []byte("y")) }}, Cut: true}, status: 200, text: "1x", asked: 1},
		"this body":        {rule: openstacktest.Rule{Match: openstacktest.Match{Body: func(b []byte) bool { return bytes.Equal(b, []byte("x")) }}, Answer: unavailable}, status: 503, text: "no"},
		"instead":          {rule: openstacktest.Rule{Answer: unavailable}, status: 503, text: "no"},
		"after":            {rule: openstacktest.Rule{Answer: unavailable, Forward: true}, status: 503, text: "no", asked: 1},
		"cut instead":      {rule: openstacktest.Rule{Cut: true}, broken: true},
		"cut after":        {rule: openstacktest.Rule{Cut: true, Forward: true}, broken: true, asked: 1},
		"delay":            {rule: openstacktest.Rule{Delay: 20 * time.Millisecond}, status: 200, text: "1x", asked: 1},
		"not the first":    {rule: openstacktest.Rule{Cut: true, Skip: 1}, status: 200, text: "1x", asked: 1},
		"never by chance":  {rule: openstacktest.Rule{Cut: true, Probability: 1e-12}, status: 200, text: "1x", asked: 1},
		"always by chance": {rule: openstacktest.Rule{Answer: unavailable, Probability: 1}, status: 503, text: "no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := openstacktest.NewFaults(1)
			address, asked := counter(t, faults)
			if name != "nothing" {
				faults.Add(test.rule)
			}
			started := time.Now()
			status, text, err := send(t, http.MethodPost, address+"/path?query=1", "x")
			assert.Equal(t, test.broken, err != nil, "%v", err)
			assert.GreaterOrEqual(t, time.Since(started), test.rule.Delay)
			assert.Equal(t, test.status, status)
			assert.Equal(t, test.text, text)
			assert.Equal(t, test.asked, asked.Load())
			calls := faults.Calls()
			require.Len(t, calls, 1)
			assert.Equal(t, http.MethodPost, calls[0].Method)
			assert.Equal(t, "/path?query=1", calls[0].Path)
			assert.Equal(t, test.status, calls[0].Told)
			assert.Equal(t, test.asked == 1, calls[0].Status == http.StatusOK)
			assert.WithinDuration(t, started, calls[0].At, time.Second)
		})
	}
}

func TestFaultsHooksAndTimes(t *testing.T) {
	t.Parallel()
	faults := openstacktest.NewFaults(1)
	address, asked := counter(t, faults)
	var mu sync.Mutex
	var order []string
	note := func(when string) func(*http.Request) {
		return func(*http.Request) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, fmt.Sprint(when, " ", asked.Load()))
		}
	}
	remove := faults.Add(openstacktest.Rule{
		Times: 1, Cut: true, Forward: true, Before: note("before"), After: note("after"),
	})
	_, _, err := send(t, http.MethodGet, address, "")
	require.Error(t, err)
	mu.Lock()
	assert.Equal(t, []string{"before 0", "after 1"}, order)
	mu.Unlock()
	_, text, err := send(t, http.MethodGet, address, "")
	require.NoError(t, err)
	assert.Equal(t, "2", text, "once is once")
	remove()
	faults.Add(openstacktest.Rule{Cut: true})
	faults.Clear()
	faults.Forget()
	_, _, err = send(t, http.MethodGet, address, "")
	require.NoError(t, err)
	assert.Equal(t, 1, faults.Count(openstacktest.Match{}))
}

func TestLag(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]openstacktest.Rule{
		"calls": {LagCalls: 2},
		"time":  {LagTime: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := openstacktest.NewFaults(1)
			address, asked := counter(t, faults)
			rule.Match = openstacktest.Match{Method: http.MethodGet, Path: "/list"}
			faults.Add(rule)
			var told []string
			for range 5 {
				_, text, err := send(t, http.MethodGet, address+"/list", "")
				require.NoError(t, err)
				told = append(told, text)
			}
			_, other, err := send(t, http.MethodGet, address+"/other", "")
			require.NoError(t, err)
			assert.Equal(t, "6", other)
			assert.Equal(t, int64(6), asked.Load())
			if name == "calls" {
				assert.Equal(t, []string{"1", "1", "1", "2", "3"}, told)
			} else {
				assert.Equal(t, []string{"1", "1", "1", "1", "1"}, told)
			}
		})
	}
}

func TestChancesAreRepeatable(t *testing.T) {
	t.Parallel()
	outcomes := func(seed uint64) (result string) {
		faults := openstacktest.NewFaults(seed)
		address, _ := counter(t, faults)
		faults.Add(openstacktest.Rule{Probability: 0.5, Answer: &openstacktest.Answer{Status: 500}})
		for range 40 {
			status, _, err := send(t, http.MethodGet, address, "")
			require.NoError(t, err)
			result += fmt.Sprint(status/100, " ")
		}
		return result
	}
	first := outcomes(7)
	assert.Equal(t, first, outcomes(7))
	assert.NotEqual(t, first, outcomes(8))
	assert.Contains(t, first, "2")
	assert.Contains(t, first, "5")
}
