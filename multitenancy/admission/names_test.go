// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/cloudveneto/caas/multitenancy/admission"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

func (w *world) creates(tb testing.TB, by, resource, name string) *admissionv1.AdmissionResponse {
	tb.Helper()
	_, response := w.decide(tb, request{by: user(by), resource: resource, object: parse(tb, "metadata: {name: "+name+"}")})
	return response
}

// A37: a name stays its last owner's for a while.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	response := w.creates(t, alice, "core/secrets", "bobs")
	require.Contains(t, refused(response), "the name bobs was used by somebody else a short time ago", "the index has not seen it go")

	w.index.Delete(key("", "secrets", "bobs"), "secrets/bobs")
	w.now = w.now.Add(90 * time.Second)
	response = w.creates(t, alice, "core/secrets", "bobs")
	assert.Equal(t, "the name bobs was used by somebody else a short time ago; try again in 31 s, or use another", refused(response))
	assert.EqualValues(t, 409, response.Result.Code)
	assert.EqualValues(t, 31, response.Result.Details.RetryAfterSeconds)
	assert.Empty(t, refused(w.creates(t, bob, "core/secrets", "bobs")), "its last owner may")
	assert.Empty(t, refused(w.creates(t, alice, "core/configmaps", "other")))

	w.now = w.now.Add(30 * time.Second)
	assert.Empty(t, refused(w.creates(t, alice, "core/secrets", "bobs")))
}

// TestNameThatCameAndWentUnseen: no watch has told of the object yet, nor that it is gone.
func TestNameThatCameAndWentUnseen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Empty(t, refused(w.creates(t, alice, "core/secrets", "brief")))
	assert.Contains(t, refused(w.creates(t, bob, "core/secrets", "brief")), "was used by somebody else a short time ago")
	assert.Empty(t, refused(w.creates(t, alice, "core/secrets", "brief")))
	w.now = w.now.Add(10 * time.Second)
	assert.Empty(t, refused(w.creates(t, bob, "core/secrets", "brief")))
}

// A36: a name to which a pod of another user refers cannot be taken.
func TestReferredName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	refers := &admission.Object{
		Key: key("", "pods", "reader"), UID: "reader", Owner: tenant.Owner{UserID: alice},
		References: []admission.Key{key("", "secrets", "later"), key("", "configmaps", "later"), key("", "persistentvolumeclaims", "later"), key("", "serviceaccounts", "later")},
	}
	w.index.Put(refers)
	for _, resource := range []string{"core/secrets", "core/configmaps", "core/persistentvolumeclaims", "core/serviceaccounts"} {
		assert.Equal(t, "the name later is referred to by an object of somebody else; use another", refused(w.creates(t, bob, resource, "later")))
		assert.Empty(t, refused(w.creates(t, alice, resource, "later")))
	}
	w.now = w.now.Add(10 * time.Second) // the names are not kept for alice any longer
	ended := *refers
	ended.References = nil // as of a pod that has ended
	w.index.Put(&ended)
	assert.Empty(t, refused(w.creates(t, bob, "core/secrets", "later")))
	w.index.Put(refers)
	w.index.Delete(refers.Key, "of-another-one")
	assert.NotEmpty(t, refused(w.creates(t, bob, "core/secrets", "later")), "a late notice about an earlier object")
	w.index.Delete(refers.Key, refers.UID)
	assert.Empty(t, refused(w.creates(t, bob, "core/secrets", "later")))
}

// An object of the same name that comes before the notice that the first has gone.
func TestReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index.Put(&admission.Object{Key: key("", "secrets", "bobs"), UID: "second", Owner: tenant.Owner{UserID: alice}})
	assert.Nil(t, w.index.ByUID("secrets/bobs"))
	assert.Equal(t, alice, w.index.Find(key("", "secrets", "bobs")).Owner.UserID)
	_, refused := w.index.Quarantined(key("", "secrets", "bobs"), alice)
	assert.True(t, refused, "bob had the name a moment ago")
	w.index.Delete(key("", "secrets", "bobs"), "secrets/bobs")
	assert.NotNil(t, w.index.Find(key("", "secrets", "bobs")))
}

// Graves are swept, or an attacker could fill the memory.
func TestSweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 20 {
		for _, name := range []string{"a", "b", "c"} {
			w.own(bob, "", "configmaps", name+w.now.String())
			w.index.Delete(key("", "configmaps", name+w.now.String()), w.index.Find(key("", "configmaps", name+w.now.String())).UID)
		}
		w.now = w.now.Add(30 * time.Second)
	}
	_, graves := w.index.Size()
	assert.LessOrEqual(t, graves, 18)
}

// What is admitted may come to nothing, as with a quota that is used up: then nothing is ever deleted.
func TestSweepOfWhatNeverCame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for at := range 200 {
		require.Empty(t, refused(w.creates(t, alice, "core/configmaps", "never-"+strconv.Itoa(at))))
		w.now = w.now.Add(time.Second)
	}
	_, graves := w.index.Size()
	assert.LessOrEqual(t, graves, 50)
}

// Pods of offloaded work are made before what they refer to, and wait for it.
func TestGate(t *testing.T) {
	t.Parallel()
	const gate = "schedulingGates: [{name: offload.infn.it/objects}]\n"
	const volume = "volumes: [{name: v, secret: {secretName: later}}]"
	w := newWorld(t)
	waiting, response := w.decide(t, request{by: user(alice), resource: "core/pods", object: pod(t, gate+volume)})
	require.Empty(t, refused(response))
	_, response = w.decide(t, request{by: user(alice), resource: "core/pods", object: pod(t, "schedulingGates: [{name: offload.infn.it/objects}, {name: example.org/b}]\n"+volume)})
	assert.Equal(t, `spec.volumes[0].secret: secrets "later": not found or not yours`, refused(response), "exactly that gate")
	_, response = w.decide(t, request{by: user(alice), resource: "core/pods", object: pod(t, gate+"volumes: [{name: v, secret: {secretName: bobs}}]")})
	assert.Equal(t, `spec.volumes[0].secret: secrets "bobs": not found or not yours`, refused(response), "another's is no missing one")

	open := func() string {
		after := patched(t, waiting, nil)
		delete(after["spec"].(object), "schedulingGates")
		_, response := w.decide(t, request{by: user(alice), operation: admissionv1.Update, resource: "core/pods", object: after, old: waiting})
		return refused(response)
	}
	assert.Equal(t, `spec.volumes[0].secret: secrets "later": not found or not yours`, open())
	w.own(bob, "", "secrets", "later")
	assert.Equal(t, `spec.volumes[0].secret: secrets "later": not found or not yours`, open())
	w.own(alice, "", "secrets", "later")
	assert.Empty(t, open())
}

// What a pod refers to may go; the pod can still be labelled.
func TestOldReference(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.own(alice, "", "secrets", "brief")
	stored, response := w.decide(t, request{by: user(alice), resource: "core/pods", object: pod(t, "volumes: [{name: v, secret: {secretName: brief}}]")})
	require.Empty(t, refused(response))
	w.index.Delete(key("", "secrets", "brief"), "secrets/brief")
	changed := patched(t, stored, nil)
	changed["spec"].(object)["activeDeadlineSeconds"] = 5
	_, response = w.decide(t, request{by: user(alice), operation: admissionv1.Update, resource: "core/pods", object: changed, old: stored})
	assert.Empty(t, refused(response))
}
