// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/sidecar/plugin/claims"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

const hour = "1h0m0s"

func start() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// temporary is a claim that is to be deleted some time; unused is since when it is not used, or "".
func temporary(grace, unused string) *corev1.PersistentVolumeClaim {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: "cms", Name: "home-1", UID: "claim", ResourceVersion: "7",
		Labels: map[string]string{
			translate.LabelManagedBy: translate.ManagedBy, translate.LabelClaim: "1", translate.LabelRetention: string(translate.RetentionDelete),
		},
		Annotations: map[string]string{translate.AnnotationGrace: grace},
	}}
	if unused != "" {
		claim.Annotations[translate.AnnotationUnusedSince] = unused
	}
	return claim
}

func user(uid string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "p-" + uid, Labels: map[string]string{
		translate.LabelManagedBy: translate.ManagedBy, translate.LabelUID: uid, translate.LabelOrigin: "default",
		translate.LabelClaimPrefix + "1": "home-1",
	}}}
}

func keeper(t *testing.T, client *fake.Clientset, known ...*corev1.Pod) *claims.Keeper {
	t.Helper()
	pods := table.New()
	for _, pod := range known {
		pods.Observe(table.Trim(pod))
	}
	k, err := claims.New(claims.Config{Client: client, Table: pods, Namespaces: []string{"cms"}, Selector: "owner=me"})
	require.NoError(t, err)
	return k
}

// writes are the verbs of the changes of claims that were asked for.
func writes(client *fake.Clientset) []string {
	var verbs []string
	for _, action := range client.Actions() {
		if action.Matches("patch", "persistentvolumeclaims") || action.Matches("delete", "persistentvolumeclaims") {
			verbs = append(verbs, action.GetVerb())
		}
	}
	return verbs
}

func TestSweep(t *testing.T) {
	t.Parallel()
	before := func(age time.Duration) string { return start().Add(-age).Format(time.RFC3339Nano) }
	for name, test := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		// known is in the table, there in the cluster.
		known, there bool
		want         []string
		marked       bool
	}{
		"used":                      {claim: temporary(hour, ""), known: true, there: true},
		"used again":                {claim: temporary(hour, before(time.Minute)), known: true, there: true, want: []string{"patch"}},
		"used for long":             {claim: temporary(hour, before(2*time.Hour)), known: true, there: true, want: []string{"patch"}},
		"no longer used":            {claim: temporary(hour, ""), want: []string{"patch"}, marked: true},
		"unused for less":           {claim: temporary(hour, before(time.Minute)), marked: true},
		"unused for long":           {claim: temporary(hour, before(2*time.Hour)), want: []string{"delete"}},
		"without grace":             {claim: temporary("0s", before(0)), want: []string{"delete"}},
		"by a pod not yet known":    {claim: temporary(hour, before(2*time.Hour)), there: true, want: []string{"patch"}},
		"a mark that says nothing":  {claim: temporary(hour, "yesterday"), want: []string{"patch"}, marked: true},
		"a grace that says nothing": {claim: temporary("long", before(2*time.Hour)), marked: true},
		"no grace, for days":        {claim: temporary("", before(25*time.Hour)), want: []string{"delete"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := fake.NewClientset(test.claim.DeepCopy())
			var known []*corev1.Pod
			if test.known {
				known = append(known, user("u"))
			}
			if test.there {
				pod := user("u")
				pod.Labels["owner"] = "me"
				require.NoError(t, client.Tracker().Add(pod))
			}
			k := keeper(t, client, known...)
			k.Observe(test.claim)
			require.NoError(t, k.Sweep(t.Context(), start()))
			assert.Equal(t, test.want, writes(client))
			claim, err := client.CoreV1().PersistentVolumeClaims("cms").Get(t.Context(), "home-1", metav1.GetOptions{})
			if len(test.want) > 0 && test.want[0] == "delete" {
				assert.True(t, apierrors.IsNotFound(err))
				assert.EqualValues(t, 1, k.Removed())
				return
			}
			require.NoError(t, err)
			_, marked := claim.Annotations[translate.AnnotationUnusedSince]
			assert.Equal(t, test.marked, marked)
			if test.marked && len(test.want) > 0 {
				assert.Equal(t, start().Format(time.RFC3339Nano), claim.Annotations[translate.AnnotationUnusedSince])
			}
			assert.Zero(t, k.Removed())
		})
	}
}

// TestDeletionNamesTheVersion wants a deletion to fail when anybody has changed the claim since it was marked.
func TestDeletionNamesTheVersion(t *testing.T) {
	t.Parallel()
	claim := temporary(hour, start().Add(-2*time.Hour).Format(time.RFC3339Nano))
	client := fake.NewClientset(claim.DeepCopy())
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "persistentvolumeclaims"}, "home-1", errors.New("changed"))
	client.PrependReactor("delete", "persistentvolumeclaims", func(action ktesting.Action) (bool, runtime.Object, error) {
		preconditions := action.(ktesting.DeleteActionImpl).DeleteOptions.Preconditions
		assert.EqualValues(t, "claim", *preconditions.UID)
		assert.Equal(t, "7", *preconditions.ResourceVersion)
		return true, nil, conflict
	})
	k := keeper(t, client)
	k.Observe(claim)
	require.NoError(t, k.Sweep(t.Context(), start()), "the next look decides")
	assert.Zero(t, k.Removed())
	assert.Len(t, writes(client), 1)
}

// TestSweepGoesOn wants one claim that cannot be looked at not to stop the others, nor what is not ours to be touched.
func TestSweepGoesOn(t *testing.T) {
	t.Parallel()
	bad, good, gone, foreign := temporary(hour, ""), temporary(hour, ""), temporary(hour, ""), temporary(hour, "")
	bad.Name, bad.UID = "bad", "bad"
	gone.Name, gone.UID, gone.DeletionTimestamp = "gone", "gone", &metav1.Time{Time: start()}
	foreign.Name, foreign.UID = "foreign", "foreign"
	delete(foreign.Labels, translate.LabelClaim)
	client := fake.NewClientset(bad.DeepCopy(), good.DeepCopy(), foreign.DeepCopy())
	client.PrependReactor("patch", "persistentvolumeclaims", func(action ktesting.Action) (bool, runtime.Object, error) {
		if action.(ktesting.PatchAction).GetName() == "bad" {
			return true, nil, errors.New("no")
		}
		return false, nil, nil
	})
	k := keeper(t, client)
	for _, claim := range []*corev1.PersistentVolumeClaim{bad, good, gone, foreign} {
		k.Observe(claim)
	}
	require.ErrorContains(t, k.Sweep(t.Context(), start()), "claim cms/bad: mark")
	assert.Len(t, writes(client), 2)
	claim, err := client.CoreV1().PersistentVolumeClaims("cms").Get(t.Context(), "home-1", metav1.GetOptions{})
	require.NoError(t, err)
	assert.NotEmpty(t, claim.Annotations[translate.AnnotationUnusedSince])
}

// TestNoClaimsNoRequests wants nothing asked of the cluster where there is nothing to do.
func TestNoClaimsNoRequests(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	k := keeper(t, client, user("u"))
	require.NoError(t, k.Sweep(t.Context(), start()))
	k.Observe(temporary(hour, ""))
	require.NoError(t, k.Sweep(t.Context(), start()))
	assert.Empty(t, client.Actions())
	assert.Equal(t, 1, k.Len())
}
