// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package soak_test has the offloading path work under random load and faults for some minutes; test/bench/soak is the
// same for longer.
package soak_test

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/soak"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	labName = "soak"
	// duration is that of load and faults.
	duration = 3 * time.Minute
)

//nolint:gochecknoglobals // TestMain has to know of it
var shared labtest.World[lab.Lab]

// TestMain removes the lab at the end, also when it is interrupted.
func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // clients have nothing to say here
	os.Exit(shared.Run(m, labtest.Remove(labName)))
}

// chosen is the seed, which CAAS_SOAK_SEED chooses, and the time that CAAS_SOAK_DURATION does.
func chosen(t *testing.T) (uint64, time.Duration) {
	t.Helper()
	seed, lasts := uint64(6), duration
	var err error
	if text := os.Getenv("CAAS_SOAK_SEED"); text != "" {
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "CAAS_SOAK_SEED")
	}
	if text := os.Getenv("CAAS_SOAK_DURATION"); text != "" {
		lasts, err = time.ParseDuration(text)
		require.NoError(t, err, "CAAS_SOAK_DURATION")
	}
	return seed, lasts
}

// TestSoak disturbs everything for three minutes. In the end both clusters agree.
func TestSoak(t *testing.T) {
	labtest.NeedRoot(t)
	seed, lasts := chosen(t)
	l := shared.Get(t, func(ctx context.Context, logf func(string, ...any)) (*lab.Lab, error) {
		// Pods run on fake nodes only, and what keeps users apart has its own tests.
		return labtest.Up(ctx, lab.Config{Name: labName, NoTenancy: true, Nodes: map[string]int{lab.CaaS: 0, lab.AF: 0}}, logf)
	})
	programs, err := labtest.Bin()
	require.NoError(t, err)
	result, err := soak.Run(t.Context(), soak.Config{
		Lab: l, BinDir: programs, Seed: seed, Duration: lasts, Profiles: os.Getenv("CAAS_SOAK_PROFILES"), Say: t.Logf,
	})
	require.NoError(t, err)
	for _, memory := range result.Memory {
		t.Logf("%s: %.1f MiB of heap before, %.1f after, %.0f goroutines before, %.0f after", memory.Program,
			memory.Before.Heap/(1<<20), memory.After.Heap/(1<<20), memory.Before.Goroutines, memory.After.Goroutines)
	}
	assert.Positive(t, result.Remote, "pods ran")
	assert.NotEmpty(t, result.Faults, "links were disturbed")
}
