// SPDX-License-Identifier: Apache-2.0

package pool_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/osnode/pool"
)

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := pool.New(pool.Config{})
	require.Error(t, err)
	for _, what := range []string{"Client", "Reader", "Recorder", "Cloud", "DefaultProvider"} {
		assert.ErrorContains(t, err, what+" is missing")
	}
}

func TestDefaultTimers(t *testing.T) {
	t.Parallel()
	timers := pool.DefaultTimers()
	assert.Equal(t, 2*time.Second, timers.PendingAge)
	assert.Equal(t, 250*time.Millisecond, timers.BatchIdle)
	assert.Equal(t, 750*time.Millisecond, timers.BatchMost)
	assert.Equal(t, 5*time.Minute, timers.BackoffFirst)
	assert.Equal(t, 30*time.Minute, timers.BackoffMost)
}
