// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/cloudveneto/caas/multitenancy/admission"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// pair is an object that refers to another, which does not exist, and that other.
type pair struct {
	resource, object, to string
	// what is another user's, of that name.
	other, otherObject string
}

func pairs() map[string]pair {
	const ingress = "networking.k8s.io/ingresses"
	return map[string]pair{
		"autoscaler": {
			"autoscaling/horizontalpodautoscalers", "metadata: {name: OWN}\nspec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: NAME}}", "deployments.apps",
			"apps/deployments", "metadata: {name: NAME}",
		},
		"Ingress's Service": {
			ingress, "metadata: {name: OWN}\nspec: {defaultBackend: {service: {name: NAME, port: {number: 80}}}}", "services",
			"core/services", "metadata: {name: NAME}",
		},
		"Ingress's Secret": {
			ingress, "metadata: {name: OWN}\nspec: {tls: [{secretName: NAME}]}", "secrets",
			"core/secrets", "metadata: {name: NAME}",
		},
		"Ingress's host": {
			ingress, "metadata: {name: OWN}\nspec: {rules: [{host: NAME}]}", "",
			ingress, "metadata: {name: other-OWN}\nspec: {rules: [{host: NAME}]}",
		},
	}
}

// filled has the name that both are about, and one of the user's own.
func filled(object string, user authenticationv1.UserInfo, name string) string {
	return strings.NewReplacer("NAME", name, "OWN", "of-"+user.UID+"-"+name).Replace(object)
}

func (p pair) by(tb testing.TB, user authenticationv1.UserInfo, name string) request {
	tb.Helper()
	return request{by: user, resource: p.resource, object: parse(tb, filled(p.object, user, name))}
}

func (p pair) otherBy(tb testing.TB, user authenticationv1.UserInfo, name string) request {
	tb.Helper()
	return request{by: user, resource: p.other, object: parse(tb, filled(p.otherObject, user, name))}
}

// TestReferenceAndNameAtOnce has no news of what was just admitted come.
func TestReferenceAndNameAtOnce(t *testing.T) {
	t.Parallel()
	for name, p := range pairs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, response := w.decide(t, p.by(t, user(alice), "later"))
			require.Empty(t, refused(response))
			_, response = w.decide(t, p.otherBy(t, user(bob), "later"))
			assert.NotEmpty(t, refused(response), "what refers to it was first")
			_, response = w.decide(t, p.otherBy(t, user(alice), "later"))
			assert.Empty(t, refused(response))

			_, response = w.decide(t, p.otherBy(t, user(bob), "bobs-new"))
			require.Empty(t, refused(response))
			_, response = w.decide(t, p.by(t, user(alice), "bobs-new"))
			assert.NotEmpty(t, refused(response), "the name was first")
			_, response = w.decide(t, p.by(t, user(bob), "bobs-new"))
			assert.Empty(t, refused(response))

			w.now = w.now.Add(10 * time.Second)
			_, response = w.decide(t, p.otherBy(t, user(bob), "later"))
			assert.Empty(t, refused(response), "it has come to nothing")
		})
	}
}

// TestReferenceIsChanged has an autoscaler aim at another name, which is just being taken.
func TestReferenceIsChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := pairs()["autoscaler"]
	stored, response := w.decide(t, p.by(t, user(alice), "first"))
	require.Empty(t, refused(response))
	changed := patched(t, stored, nil)
	changed["spec"].(object)["scaleTargetRef"].(object)["name"] = "second"
	_, response = w.decide(t, request{by: user(alice), operation: admissionv1.Update, resource: p.resource, object: changed, old: stored})
	require.Empty(t, refused(response))
	_, response = w.decide(t, p.otherBy(t, user(bob), "second"))
	assert.NotEmpty(t, refused(response))
}

// TestReservationOfWhatIsRefused leaves nothing behind, and neither does what is only tried.
func TestReservationOfWhatIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := pairs()["Ingress's Service"]
	refers := p.by(t, user(alice), "later")
	refers.object["metadata"].(object)["annotations"] = object{"nginx.ingress.kubernetes.io/snippet": "x"}
	_, response := w.decide(t, refers)
	require.NotEmpty(t, refused(response))
	tried, response := w.mutated(t, p.by(t, user(alice), "later"))
	require.Empty(t, refused(response))
	review := request{by: user(alice), resource: p.resource, object: tried}.review(t)
	review.DryRun = new(true)
	response, err := w.Validate(t.Context(), review)
	require.NoError(t, err)
	require.Empty(t, refused(response))
	_, names := w.index.Size()
	assert.Zero(t, names)
	_, response = w.decide(t, p.otherBy(t, user(bob), "later"))
	assert.Empty(t, refused(response))
}

// TestReferenceRace has both at the same moment, over and over: never are both let through.
func TestReferenceRace(t *testing.T) {
	t.Parallel()
	for name, p := range pairs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for round := range 200 {
				at := fmt.Sprintf("race-%d", round)
				hers, _ := w.mutated(t, p.by(t, user(alice), at))
				his, _ := w.mutated(t, p.otherBy(t, user(bob), at))
				answers := [2]*admissionv1.AdmissionResponse{}
				start := make(chan struct{})
				var both sync.WaitGroup
				for i, r := range []request{{by: user(alice), resource: p.resource, object: hers}, {by: user(bob), resource: p.other, object: his}} {
					review := r.review(t)
					both.Go(func() {
						<-start
						answer, err := w.Validate(t.Context(), review)
						assert.NoError(t, err)
						answers[i] = answer
					})
				}
				close(start)
				both.Wait()
				require.False(t, answers[0].Allowed && answers[1].Allowed, at)
			}
		})
	}
}

// TestReferenceToWhatIsNotKnownYet has another process admit the other's object, and the API server know it before the index.
func TestReferenceToWhatIsNotKnownYet(t *testing.T) {
	t.Parallel()
	for name, p := range pairs() {
		if p.to == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.lookup = func(key admission.Key) (*admission.Object, error) {
				assert.Equal(t, p.to, key.Resource.String())
				return &admission.Object{Key: key, UID: "new", Owner: tenant.Owner{UserID: bob}}, nil
			}
			_, response := w.decide(t, p.by(t, user(alice), "new"))
			assert.Contains(t, refused(response), "not found or not yours")
			_, response = w.decide(t, p.by(t, user(bob), "new"))
			assert.Empty(t, refused(response))
		})
	}
}

// TestScale is the last look: two processes have let through what does not go together.
func TestScale(t *testing.T) {
	t.Parallel()
	const hpa = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
	aims := func(w *world, owner string) {
		w.index.Put(&admission.Object{
			Key: key("autoscaling", "horizontalpodautoscalers", "of-"+owner), UID: "hpa", Owner: tenant.Owner{UserID: owner},
			References: []admission.Key{key("apps", "deployments", "bobs")},
		})
	}
	scale := parse(t, "metadata: {name: bobs}\nspec: {replicas: 9}")
	for name, test := range map[string]struct {
		by   authenticationv1.UserInfo
		aims string
		want string
	}{
		"owner's autoscaler":     {system(hpa), bob, ""},
		"another's autoscaler":   {system(hpa), alice, "deployments.apps bobs: the autoscaler of-" + alice + " of somebody else aims at it"},
		"whole controller":       {system("system:kube-controller-manager"), alice, "deployments.apps bobs: the autoscaler of-" + alice + " of somebody else aims at it"},
		"administrator's":        {system(hpa), "", ""},
		"the owner himself":      {user(bob), alice, ""},
		"the one who aims at it": {user(alice), alice, "deployments.apps bobs: not found or not yours"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if test.aims != "" {
				aims(w, test.aims)
			}
			_, response := w.decide(t, request{by: test.by, operation: admissionv1.Update, resource: "apps/deployments/scale", object: scale, old: scale})
			assert.Equal(t, test.want, refused(response))
		})
	}
}
