// SPDX-License-Identifier: Apache-2.0

//go:build integration

package property_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/test/property"
	"github.com/cloudveneto/caas/test/property/site"
)

const (
	// seedEnv plays a history again, and stepsEnv a longer one.
	seedEnv  = "CAAS_PROPERTY_SEED"
	stepsEnv = "CAAS_PROPERTY_STEPS"

	defaultSteps = 2000
	logLines     = 50
	leakySteps   = 1000
)

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	value, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, variable)
	return value
}

// TestIntegrationHistories plays what users may do to each other on a real API server with the real programs.
func TestIntegrationHistories(t *testing.T) {
	programs, err := site.Build(t.Context(), t.TempDir(), site.Authz, site.Admission)
	require.NoError(t, err)
	s, err := site.Start(t.Context(), property.Site(t.TempDir(), programs))
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(s.Log(site.Admission)) // what there is of it
			t.Logf("controllers that were refused:\n%s", controllers(string(log)))
		}
		assert.NoError(t, s.Close())
	})
	options := property.Options{
		Seed:  number(t, seedEnv, uint64(time.Now().UnixNano())%1_000_000),
		Steps: int(number(t, stepsEnv, defaultSteps)),
	}
	t.Logf("seed %d; %s plays it again", options.Seed, seedEnv)
	t.Run("one after another", func(t *testing.T) {
		result, err := property.Run(t.Context(), s, options)
		t.Logf("%d steps in %s: %v", result.Steps, result.Elapsed, result.Outcomes)
		require.NoError(t, err)
		assert.Equal(t, options.Steps, result.Steps)
		for _, outcome := range []string{"done", "denied", "taken"} {
			assert.Greater(t, result.Outcomes[outcome], options.Steps/50, "a history in which too little is %s says nothing", outcome)
		}
	})
	options.Steps /= 2
	t.Run("at the same time", func(t *testing.T) {
		result, err := property.RunConcurrently(t.Context(), s, options)
		t.Logf("%d steps in %s: %v", result.Steps, result.Elapsed, result.Outcomes)
		require.NoError(t, err)
		assert.Greater(t, result.Outcomes["done"], options.Steps/20)
	})
	t.Run("for the same names", func(t *testing.T) {
		options.Crowded = true
		result, err := property.RunConcurrently(t.Context(), s, options)
		t.Logf("%d steps in %s: %v", result.Steps, result.Elapsed, result.Outcomes)
		require.NoError(t, err)
		assert.Greater(t, result.Outcomes["taken"], options.Steps/20)
	})
}

// controllers are the last lines of a log about Kubernetes' own controllers.
func controllers(log string) string {
	lines := slices.DeleteFunc(strings.Split(log, "\n"), func(line string) bool { return !strings.Contains(line, "user=system:") })
	return strings.Join(lines[max(0, len(lines)-logLines):], "\n")
}

// TestIntegrationLeaks plays on a site whose webhook shows members each other's objects, which has to be found out.
func TestIntegrationLeaks(t *testing.T) {
	programs, err := site.Build(t.Context(), t.TempDir(), site.Authz, site.Admission)
	require.NoError(t, err)
	config := property.Site(t.TempDir(), programs)
	config.Authz = map[string]any{"listMode": "project"}
	s, err := site.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	options := property.Options{Seed: 1, Steps: leakySteps}
	_, err = property.Run(t.Context(), s, options)
	require.ErrorContains(t, err, "want [denied]: 200")
	require.ErrorContains(t, err, "seed 1, step ")
	_, err = property.RunConcurrently(t.Context(), s, options)
	require.Error(t, err)
	require.Regexp(t, ` sees |it is not theirs to (watch|list)`, err.Error(), "whichever of the two comes first")
}
