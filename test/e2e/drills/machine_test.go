// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/joiner"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

// errorAndBack is a host that fails and comes back: the machine has what its owner needs, and stays.
func errorAndBack(d *drill) {
	osn := d.running(d.name())
	admin := d.operator
	d.act(admin, osn.Status.Server.ID, object{"os-resetState": object{"state": "error"}})
	now := d.reaches(d.name(), osnodev1.PhaseFailed)
	d.condition(now, osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonServerError, "")
	assert.NotEmpty(d.t, now.Status.Description)
	d.told(osn, osnodev1.ReasonServerError, 1)
	pause(d.t.Context(), orphanAge+collect)
	require.True(d.t, d.there(osn.Status.Server.ID), "it is left alone")
	d.act(admin, osn.Status.Server.ID, object{"os-resetState": object{"state": "active"}})
	now = d.reaches(d.name(), osnodev1.PhaseRunning)
	assert.Equal(d.t, osn.Status.NodeID, now.Status.NodeID)
	assert.Equal(d.t, osn.Status.Server.ID, now.Status.Server.ID)
	assert.Nil(d.t, now.Status.LastError)
	assert.Len(d.t, d.everMade(osn.UID), 1)
	d.told(osn, osnodev1.ReasonServerError, 1)
}

func stoppedAndStarted(d *drill) {
	osn := d.running(d.name())
	session := d.login(owner)
	d.act(session, osn.Status.Server.ID, object{"os-stop": nil})
	now := d.reaches(d.name(), osnodev1.PhaseStopped)
	assert.Equal(d.t, "The virtual machine is stopped", now.Status.Description)
	d.condition(now, osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonServerStopped, "its status is SHUTOFF")
	pause(d.t.Context(), 2*time.Second)
	require.NoError(d.t, d.admin.Get(d.t.Context(), types.NamespacedName{Name: osn.Status.NodeID}, &corev1.Node{}), "its Node stays")
	d.act(session, osn.Status.Server.ID, object{"os-start": nil})
	now = d.reaches(d.name(), osnodev1.PhaseRunning)
	assert.Equal(d.t, osn.Status.NodeID, now.Status.NodeID)
	assert.Len(d.t, d.everMade(osn.UID), 1)
	assert.NotContains(d.t, d.history.phases(osn.UID), osnodev1.PhaseFailed)
}

// deletedOutOfBand is a machine that its owner deletes in the dashboard. As long as its Node is Ready nobody believes it.
func deletedOutOfBand(d *drill) {
	osn := d.running(d.name())
	require.NoError(d.t, d.login(owner).Do(d.t.Context(), http.MethodDelete, "compute", "/servers/"+osn.Status.Server.ID, nil, nil))
	now := d.reaches(d.name(), osnodev1.PhaseFailed)
	assert.Equal(d.t, "The virtual machine is gone: it was deleted in OpenStack", now.Status.Description)
	d.condition(now, osnodev1.ConditionServerReady, metav1.ConditionFalse, osnodev1.ReasonServerGone, "it was deleted in OpenStack")
	d.told(osn, osnodev1.ReasonServerGone, 1)
	err := d.admin.Get(d.t.Context(), types.NamespacedName{Name: osn.Status.NodeID}, &corev1.Node{})
	assert.True(d.t, apierrors.IsNotFound(err), "the Node is gone: %v", err)
	assert.Len(d.t, d.everMade(osn.UID), 1, "no other is made without being asked for")

	require.NoError(d.t, d.change(d.name(), func(osn *osnodev1.OpenStackNode) {
		osn.Annotations = map[string]string{osnodev1.AnnotationRetry: "now"}
	}))
	now = d.reaches(d.name(), osnodev1.PhaseRunning)
	assert.NotEqual(d.t, osn.Status.NodeID, now.Status.NodeID, "the old certificates are not good for the new machine")
	assert.Len(d.t, d.everMade(osn.UID), 2)
	assert.NotContains(d.t, now.Annotations, osnodev1.AnnotationRetry)
}

// softDelete has Nova keep what is deleted for a while, as with reclaim_instance_interval. Nova's answers are changed on
// their way, because the services are shared with drills in which machines have to go: a deletion is accepted and not
// done, and from then on lists leave the machine out and the machine itself says SOFT_DELETED, which is what Nova does.
func softDelete(d *drill) {
	osn := d.running(d.name())
	soft := &recycleBin{deleted: map[string]bool{}}
	d.tamper.set(soft.roundTrip)
	d.remove(d.name())
	d.eventually("it is gone", func() (bool, string) { return !d.exists(d.name()), describe(osn) })
	assert.Equal(d.t, 1, soft.count(), "asked for once")
	assert.True(d.t, d.there(osn.Status.Server.ID), "Nova still has it")
	d.nothingInCluster(osn.UID)
	pause(d.t.Context(), orphanAge+2*collect)
	assert.Equal(d.t, 1, soft.count(), "nobody asks again")
	assert.Zero(d.t, d.faults.Count(openstacktest.Match{Method: http.MethodDelete, Path: `/ports/`}), "it may be restored, with its ports")
	// Nova's time is over.
	d.tamper.set(nil)
	d.discard(osn.Status.Server.ID)
}

// recycleBin has servers that are deleted and can be restored.
type recycleBin struct {
	mu      sync.Mutex
	deleted map[string]bool
	asked   int
}

func (b *recycleBin) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

func (b *recycleBin) roundTrip(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	if !strings.Contains(r.URL.Path, "/servers/") {
		return next.RoundTrip(r)
	}
	id := path.Base(r.URL.Path)
	if r.Method == http.MethodDelete {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.deleted[id] = true
		b.asked++
		return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}
	answer, err := next.RoundTrip(r)
	if err != nil || r.Method != http.MethodGet || answer.StatusCode != http.StatusOK {
		return answer, err
	}
	return b.rewrite(answer)
}

func (b *recycleBin) rewrite(answer *http.Response) (*http.Response, error) {
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	_ = answer.Body.Close() // it has been read
	var said struct {
		Server  object   `json:"server,omitempty"`
		Servers []object `json:"servers"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var changed any
	if said.Server != nil {
		if id, _ := said.Server["id"].(string); b.deleted[id] {
			said.Server["status"] = "SOFT_DELETED"
		}
		changed = object{"server": said.Server}
	} else {
		left := []object{}
		for _, one := range said.Servers {
			if id, _ := one["id"].(string); !b.deleted[id] {
				left = append(left, one)
			}
		}
		changed = object{"servers": left}
	}
	text, err := json.Marshal(changed)
	if err != nil {
		return nil, err
	}
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	answer.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return answer, nil
}

func deletedWhileBuilding(d *drill) {
	letGo := d.machines.holdSpawn(d.name())
	defer letGo()
	osn := d.create(d.name())
	now := d.until(d.name(), "is in BUILD", func(osn *osnodev1.OpenStackNode) bool {
		return osn.Status.Phase == osnodev1.PhaseCreating && osn.Status.Server != nil
	})
	assert.Equal(d.t, "The virtual machine is being created", now.Status.Description)
	assert.Equal(d.t, "BUILD", now.Status.Server.Status)
	// A server that is deleted before it has a place leaves no trace in Nova that could be counted.
	d.eventually("the hypervisor is asked for it", func() (bool, string) { return d.machines.spawning(d.name()), "" })
	d.remove(d.name())
	now = d.reaches(d.name(), osnodev1.PhaseDeleting)
	d.eventually("Nova is asked to delete it", func() (bool, string) {
		return d.faults.Count(openstacktest.Match{Method: http.MethodDelete, Path: now.Status.Server.ID}) > 0, ""
	})
	letGo()
	d.gone(d.name())
	assert.Len(d.t, d.everMade(osn.UID), 1)
	assert.True(d.t, d.history.said(osn.UID, "The virtual machine is being deleted"), "%+v", d.history.of(osn.UID))
	assert.NotContains(d.t, d.history.phases(osn.UID), osnodev1.PhaseJoining)
}

var tokenForm = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`)

// bootsAfterDeletion has two machines boot that Nova has not deleted yet although their objects are being deleted. The
// token of one has been in use, so the API server still believes it for a moment; its certificate is refused all the same.
func bootsAfterDeletion(d *drill) {
	cold, warm := d.id+"-cold", d.id+"-warm"
	letGo := map[string]func(){}
	for _, name := range []string{cold, warm} {
		letGo[name] = d.machines.holdEnd(name)
		defer letGo[name]()
		d.machines.behave(name, joiner.Options{Never: true})
		d.create(name)
	}
	for _, name := range []string{cold, warm} {
		d.reaches(name, osnodev1.PhaseJoining)
	}
	d.use(warm)
	for _, name := range []string{cold, warm} {
		d.remove(name)
	}
	for _, name := range []string{cold, warm} {
		d.until(name, "has no token", func(osn *osnodev1.OpenStackNode) bool {
			err := d.admin.Get(d.t.Context(), types.NamespacedName{
				Namespace: metav1.NamespaceSystem, Name: osn.Labels[osnodev1.LabelSecret],
			}, &corev1.Secret{})
			return osn.Status.Phase == osnodev1.PhaseDeleting && apierrors.IsNotFound(err)
		})
		machine, there := d.machines.named(name)
		require.True(d.t, there, "the machine is still there")
		d.machines.behave(name, joiner.Options{})
		require.NoError(d.t, d.machines.Reboot(d.t.Context(), machine.Server.UUID))
	}
	d.eventually("both are refused", func() (bool, string) {
		late, _ := d.machines.named(warm)
		never, _ := d.machines.named(cold)
		refused := late.State == joiner.Refused || strings.Contains(late.Errors["client"], "Unauthorized")
		return refused && strings.Contains(never.Errors["client"], "Unauthorized"), late.Errors["client"] + "; " + never.Errors["client"]
	})
	for _, name := range []string{cold, warm} {
		nodes := &corev1.NodeList{}
		require.NoError(d.t, d.admin.List(d.t.Context(), nodes, client.MatchingLabels{osnodev1.NodeLabelName: name}))
		assert.Empty(d.t, nodes.Items)
		letGo[name]()
	}
	for _, name := range []string{cold, warm} {
		d.gone(name)
	}
}

// use has the API server see a machine's token, which it then remembers for some seconds.
func (d *drill) use(name string) {
	d.t.Helper()
	machine, there := d.machines.named(name)
	require.True(d.t, there)
	config := rest.AnonymousClientConfig(d.config)
	config.BearerToken = tokenForm.FindString(decoded(string(machine.Server.UserData)))
	clients, err := kubernetes.NewForConfig(config)
	require.NoError(d.t, err)
	review, err := clients.AuthenticationV1().SelfSubjectReviews().Create(d.t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	require.NoError(d.t, err)
	require.Contains(d.t, review.Status.UserInfo.Groups, "system:bootstrappers:osn")
}

// blockedDrain has a pod that its budget does not let go.
func blockedDrain(d *drill) {
	const limit = 4 * time.Second
	osn := d.running(d.name(), func(osn *osnodev1.OpenStackNode) { osn.Spec.DrainTimeout = &metav1.Duration{Duration: limit} })
	ctx := d.t.Context()
	labels := map[string]string{"app": "precious"}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "precious", Labels: labels},
		Spec: corev1.PodSpec{
			NodeName: osn.Status.NodeID, TerminationGracePeriodSeconds: new(int64(1)),
			Containers: []corev1.Container{{Name: "main", Image: "example.org/image"}},
		},
	}
	d.eventually("a pod is made", func() (bool, string) {
		err := d.admin.Create(ctx, pod)
		return err == nil, errorText(err)
	})
	before := pod.DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	require.NoError(d.t, d.admin.Status().Patch(ctx, pod, client.MergeFrom(before)))
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "precious"},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: labels},
		},
	}
	require.NoError(d.t, d.admin.Create(ctx, budget))
	d.eventually("the budget is known", func() (bool, string) {
		err := d.admin.Get(ctx, client.ObjectKeyFromObject(budget), budget)
		return err == nil && budget.Status.CurrentHealthy == 1, errorText(err)
	})
	began := time.Now()
	d.remove(d.name())
	now := d.until(d.name(), "is being drained", func(osn *osnodev1.OpenStackNode) bool {
		return osn.Status.Description == "Waiting for 1 pods to leave the node"
	})
	d.condition(now, osnodev1.ConditionDrained, metav1.ConditionFalse, osnodev1.ReasonDraining, "Waiting for 1 pods")
	node := &corev1.Node{}
	require.NoError(d.t, d.admin.Get(ctx, types.NamespacedName{Name: osn.Status.NodeID}, node))
	assert.True(d.t, node.Spec.Unschedulable)
	pause(ctx, time.Until(began.Add(limit-time.Second)))
	require.NoError(d.t, d.admin.Get(ctx, client.ObjectKeyFromObject(pod), pod))
	assert.Zero(d.t, pod.DeletionTimestamp, "the budget keeps it")
	assert.True(d.t, d.there(osn.Status.Server.ID))
	d.told(osn, osnodev1.ReasonDrainTimeout, 1)
	d.gone(d.name())
	for _, call := range d.faults.Calls() {
		if call.Method == http.MethodDelete && strings.HasSuffix(call.Path, osn.Status.Server.ID) {
			assert.GreaterOrEqual(d.t, call.At.Sub(began), limit-time.Second, "not before the time was over; times are whole seconds")
		}
	}
	d.eventually("the pod is gone with its node", func() (bool, string) {
		err := d.admin.Get(context.WithoutCancel(ctx), client.ObjectKeyFromObject(pod), pod)
		return apierrors.IsNotFound(err), errorText(err)
	})
	d.told(osn, osnodev1.ReasonDraining, 1)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// neverJoined is a machine whose kubelet never says anything.
func neverJoined(d *drill) {
	d.machines.behave(d.name(), joiner.Options{Never: true})
	osn := d.create(d.name())
	now := d.reaches(d.name(), osnodev1.PhaseFailed)
	assert.Contains(d.t, now.Status.Description, "The node has not joined the cluster 15s after its virtual machine started")
	d.condition(now, osnodev1.ConditionNodeReady, metav1.ConditionFalse, osnodev1.ReasonTimeout, "see the machine's console log")
	d.condition(now, osnodev1.ConditionNodeRegistered, metav1.ConditionFalse, osnodev1.ReasonNotRegistered, "")
	d.told(osn, osnodev1.ReasonTimeout, 1)
	assert.True(d.t, d.there(now.Status.Server.ID), "its owner may want to look at it")
	began := time.Now()
	d.remove(d.name())
	d.gone(d.name())
	assert.Less(d.t, time.Since(began), 30*time.Second, "nobody waits for its pods")
	assert.Len(d.t, d.everMade(osn.UID), 1)
	d.told(osn, osnodev1.ReasonDraining, 0)
}
