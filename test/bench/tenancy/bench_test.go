// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTimes(t *testing.T) {
	t.Parallel()
	var all times
	for i := range 20 {
		all = append(all, time.Duration(20-i)*time.Second)
	}
	assert.InDelta(t, 10_000, all.at(50), 0)
	assert.InDelta(t, 20_000, all.at(99), 0)
	failure := errors.New("no")
	require.ErrorIs(t, all.timed(func() error { return failure }), failure)
	assert.Len(t, all, 21)
}

// TestSteadily waits for nobody: what is slow does not make others later.
func TestSteadily(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	began := time.Now()
	took, err := steadily(t.Context(), 100, 200*time.Millisecond, func(_ context.Context, n int) error {
		asked.Add(1)
		if n == 0 {
			time.Sleep(150 * time.Millisecond)
			return errors.New("the first")
		}
		return nil
	})
	require.ErrorContains(t, err, "the first")
	assert.EqualValues(t, 20, asked.Load())
	assert.Len(t, took, 20)
	assert.GreaterOrEqual(t, time.Since(began), 190*time.Millisecond)
	assert.GreaterOrEqual(t, took.at(100), 150.0)
	assert.Less(t, took.at(50), 100.0)
}

// TestQuestions ask about what is Alice's as often as about what is not.
func TestQuestions(t *testing.T) {
	t.Parallel()
	all, err := questions()
	require.NoError(t, err)
	denied := 0
	for _, one := range all {
		assert.NotEmpty(t, one.body)
		if one.denied {
			denied++
		}
	}
	assert.InDelta(t, len(all)/2, denied, float64(len(all))/20)
}

func TestParts(t *testing.T) {
	t.Parallel()
	o := &options{focus: []string{"authz", "nothing"}}
	_, err := o.chosen()
	require.ErrorContains(t, err, `--focus "nothing"`)
	o = &options{focus: []string{"authn"}, binDir: t.TempDir()}
	_, err = o.chosen()
	require.ErrorContains(t, err, "kube-mt-authn")
	var out bytes.Buffer
	command := newCommand()
	command.SetOut(&out)
	command.SetArgs([]string{"--help"})
	require.NoError(t, command.ExecuteContext(t.Context()))
	for _, part := range o.parts() {
		assert.True(t, strings.Contains(out.String(), "  "+part.Name+" "), part.Name)
	}
}
