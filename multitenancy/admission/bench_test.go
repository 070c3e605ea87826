// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/admission"
)

// BenchmarkPod is both halves for a pod with references, as an API server asks: with
// decoding and encoding, beside 200,000 objects.
func BenchmarkPod(b *testing.B) {
	w := newWorld(b)
	for i := range 200_000 {
		w.own(bob, "", "configmaps", fmt.Sprintf("filler-%d", i))
	}
	body := encode(b, request{by: user(alice), resource: "core/pods", object: pod(b,
		"volumes: [{name: a, secret: {secretName: mine}}, {name: b, configMap: {name: mine}}, {name: c, persistentVolumeClaim: {claimName: mine}}]\nserviceAccountName: mine")})
	var times []time.Duration
	for b.Loop() {
		for _, path := range []string{admission.MutatePath, admission.ValidatePath} {
			began := time.Now()
			recorder := post(b, w, path, body)
			times = append(times, time.Since(began))
			require.Equal(b, 200, recorder.Code)
		}
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
}
