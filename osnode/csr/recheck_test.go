// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/csr"
)

// approver decides about the objects of a cluster in memory.
func approver(t *testing.T, limits csr.Limits, objects ...client.Object) (*csr.Approver, error) {
	t.Helper()
	return approverAt(t, now, limits, objects...)
}

func approverAt(t *testing.T, clock func() time.Time, limits csr.Limits, objects ...client.Object) (*csr.Approver, error) {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, clientscheme.AddToScheme(scheme))
	require.NoError(t, osnodev1.AddToScheme(scheme))
	building := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...)
	for name, key := range csr.Indexes() {
		building = building.WithIndex(&osnodev1.OpenStackNode{}, name, key)
	}
	building = building.WithIndex(&certificatesv1.CertificateSigningRequest{}, "spec.signerName", func(object client.Object) []string {
		request, _ := object.(*certificatesv1.CertificateSigningRequest)
		return []string{request.Spec.SignerName}
	})
	built := building.Build()
	return csr.New(csr.Config{Client: built, Reader: built, Recorder: events.NewFakeRecorder(100), Clock: clock, Limits: limits})
}

// look has an approver look at the request of a scene.
func (s *scene) look(made *csr.Approver) time.Duration {
	s.tb.Helper()
	result, err := made.Reconcile(s.tb.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: s.object.Name}})
	require.NoError(s.tb, err)
	return result.RequeueAfter
}

// TestWaitingIsLookedAtLessAndLess: a machine that runs is seen in seconds, and one that does not run for minutes costs
// little.
func TestWaitingIsLookedAtLessAndLess(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]time.Duration{
		0: 2 * time.Second, 10 * time.Second: 2 * time.Second, 80 * time.Second: 10 * time.Second,
		14 * time.Minute: time.Minute, 30 * time.Minute: 0,
	} {
		t.Run(age.String(), func(t *testing.T) {
			t.Parallel()
			s := joinScene(t)
			s.request()
			s.osn().Status.Server.Status = "BUILD"
			s.object.CreationTimestamp = metav1.NewTime(now())
			ahead := time.Duration(0)
			made, err := approverAt(t, func() time.Time { return now().Add(ahead) }, csr.Limits{}, &s.object, s.osn())
			require.NoError(t, err)
			assert.Equal(t, 2*time.Second, s.look(made))
			ahead = age
			assert.Equal(t, want, s.look(made), "0 is after the patience, when it is denied")
		})
	}
}

// TestPatienceBeginsWithTheApprover: a request that came while nobody was there to decide, as when the leader changes, is
// not denied before there was a look at its machine. A denial would be final.
func TestPatienceBeginsWithTheApprover(t *testing.T) {
	t.Parallel()
	s := joinScene(t)
	s.request()
	s.osn().Status.Server = nil
	s.object.CreationTimestamp = metav1.NewTime(now().Add(-20 * time.Minute))
	ahead := time.Duration(0)
	made, err := approverAt(t, func() time.Time { return now().Add(ahead) }, csr.Limits{Patience: 15 * time.Minute}, &s.object, s.osn())
	require.NoError(t, err)
	for _, step := range []struct{ ahead, again time.Duration }{{0, 2 * time.Second}, {14 * time.Minute, time.Minute}, {16 * time.Minute, 0}} {
		ahead = step.ahead
		assert.Equal(t, step.again, s.look(made), "after %s", step.ahead)
	}
}

// TestLimits: what waits is not too old before its time is over, however long machines may take to join.
func TestLimits(t *testing.T) {
	t.Parallel()
	_, err := approver(t, csr.Limits{Patience: time.Hour, MaxAge: time.Hour})
	require.ErrorContains(t, err, "a maximum age of 1h0m0s is not above the patience of 1h0m0s")

	s := joinScene(t)
	s.request()
	s.osn().Status.Server.Status = "BUILD"
	s.object.CreationTimestamp = metav1.NewTime(now().Add(-119 * time.Minute))
	made, err := approver(t, csr.Limits{Patience: 2 * time.Hour}, &s.object, s.osn())
	require.NoError(t, err)
	assert.Equal(t, 2*time.Second, s.look(made))
}
