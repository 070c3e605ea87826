// SPDX-License-Identifier: Apache-2.0

package cloud_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/cloudveneto/caas/osnode/cloud"
)

func TestFaultClass(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]cloud.Class{
		"No valid host was found. ":                                                                                                      cloud.NoValidHost,
		"No valid host was found. There are not enough hosts available.":                                                                 cloud.NoValidHost,
		"Exceeded maximum number of retries. Exhausted all hosts available for retrying":                                                 cloud.NoValidHost,
		"Exceeded maximum number of retries. Exceeded max scheduling attempts 3 for instance 1. Last exception: Device or resource busy": cloud.NoValidHost,
		"Quota exceeded for resources: ['port'].":                                                                                        cloud.QuotaExceeded,
		"Maximum number of ports exceeded":                                                                                               cloud.QuotaExceeded,
		"Build of instance 1 aborted: VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'.":         cloud.QuotaExceeded,
		"Build of instance 1 aborted: Image 2 is unacceptable":                                                                           cloud.ServerError,
	} {
		assert.Equal(t, want, cloud.Fault{Code: 500, Message: text}.Class(), text)
	}
	assert.Equal(t, cloud.QuotaExceeded, cloud.Fault{Code: 413, Message: "too much"}.Class())
}
