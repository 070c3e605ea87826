// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/cloudveneto/caas/osnode/pool/plan"
)

func TestTopicOfARefusal(t *testing.T) {
	t.Parallel()
	assert.Equal(t, plan.Refusal{Reason: plan.OutOfQuota, Message: "leaves 1"}.Topic(), plan.Refusal{Reason: plan.OutOfQuota, Message: "leaves 0"}.Topic())
	assert.NotEqual(t, plan.Refusal{Reason: plan.Unavailable, Message: "no answer"}.Topic(), plan.Refusal{Reason: plan.Unavailable, Message: "no right"}.Topic())
}
