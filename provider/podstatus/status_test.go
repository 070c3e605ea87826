// SPDX-License-Identifier: Apache-2.0

package podstatus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/podstatus"
)

func at(seconds int) metav1.Time { return metav1.NewTime(time.Unix(1_700_000_000+int64(seconds), 123)) }

func pod(policy corev1.RestartPolicy, inits []string, containers ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u"}, Spec: corev1.PodSpec{RestartPolicy: policy}}
	for _, name := range inits {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: name, Image: "i"})
	}
	for _, name := range containers {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, Image: "i"})
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBurstable, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: at(-60)},
	}}
	return p
}

func waiting(name, reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
}

func running(name string, ready bool) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, Ready: ready, State: corev1.ContainerState{
		Running: &corev1.ContainerStateRunning{StartedAt: at(0)},
	}}
}

func ended(name string, code int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: at(5)},
	}}
}

type list = []corev1.ContainerStatus

func conditionOf(t *testing.T, status corev1.PodStatus, kind corev1.PodConditionType) corev1.PodCondition {
	t.Helper()
	found := -1
	for i, c := range status.Conditions {
		if c.Type == kind {
			require.Equal(t, -1, found, "condition %s is there twice", kind)
			found = i
		}
	}
	require.GreaterOrEqual(t, found, 0, "condition %s is missing", kind)
	return status.Conditions[found]
}

func TestFromContainersOnly(t *testing.T) {
	t.Parallel()
	never, always := corev1.RestartPolicyNever, corev1.RestartPolicyAlways
	cases := map[string]struct {
		pod         *corev1.Pod
		before      corev1.PodPhase
		inits       list
		containers  list
		phase       corev1.PodPhase
		ready       corev1.ConditionStatus
		initialized corev1.ConditionStatus
	}{
		"nothing reported is no success": {
			pod: pod(never, nil, "a"), phase: corev1.PodPending, ready: "False", initialized: "True",
		},
		"nothing reported keeps a running pod running": {
			pod: pod(never, nil, "a"), before: corev1.PodRunning, phase: corev1.PodRunning, ready: "False", initialized: "True",
		},
		"waiting": {
			pod: pod(never, nil, "a"), containers: list{waiting("a", "ImagePullBackOff")},
			phase: corev1.PodPending, ready: "False", initialized: "True",
		},
		"running and ready": {
			pod: pod(never, nil, "a"), containers: list{running("a", true)}, phase: corev1.PodRunning, ready: "True", initialized: "True",
		},
		"running, not ready, as reported": {
			pod: pod(never, nil, "a"), containers: list{running("a", false)}, phase: corev1.PodRunning, ready: "False", initialized: "True",
		},
		"one of two runs": {
			pod: pod(never, nil, "a", "b"), containers: list{running("a", true), ended("b", 0)},
			phase: corev1.PodRunning, ready: "False", initialized: "True",
		},
		"one missing, one failed: the missing one is unknown": {
			pod: pod(never, nil, "a", "b"), containers: list{ended("b", 3)}, phase: corev1.PodRunning, ready: "False", initialized: "True",
		},
		"all succeeded": {
			pod: pod(never, nil, "a", "b"), containers: list{ended("a", 0), ended("b", 0)},
			phase: corev1.PodSucceeded, ready: "False", initialized: "True",
		},
		"mixed exits fail": {
			pod: pod(never, nil, "a", "b"), containers: list{ended("a", 0), ended("b", 42)},
			phase: corev1.PodFailed, ready: "False", initialized: "True",
		},
		"all ended is the end, whatever the policy": {
			pod: pod(always, nil, "a"), containers: list{ended("a", 1)}, phase: corev1.PodFailed, ready: "False", initialized: "True",
		},
		"a restarting pod stays running": {
			pod: pod(always, nil, "a"), before: corev1.PodRunning, containers: list{waiting("a", "CrashLoopBackOff")},
			phase: corev1.PodRunning, ready: "False", initialized: "True",
		},
		"init runs": {
			pod: pod(never, []string{"i"}, "a"), inits: list{running("i", false)}, containers: list{waiting("a", "PodInitializing")},
			phase: corev1.PodPending, ready: "False", initialized: "False",
		},
		"init failed for good": {
			pod: pod(never, []string{"i"}, "a"), inits: list{ended("i", 1)}, containers: list{waiting("a", "PodInitializing")},
			phase: corev1.PodFailed, ready: "False", initialized: "False",
		},
		"init failed, to be restarted": {
			pod: pod(always, []string{"i"}, "a"), inits: list{ended("i", 1)}, containers: list{waiting("a", "PodInitializing")},
			phase: corev1.PodPending, ready: "False", initialized: "False",
		},
		"init containers that are not reported": {
			pod: pod(never, []string{"i"}, "a"), containers: list{running("a", true)},
			phase: corev1.PodRunning, ready: "True", initialized: "True",
		},
		"containers that the spec does not know": {
			pod: pod(never, nil, "a"), containers: list{ended("injected", 0)}, phase: corev1.PodPending, ready: "False", initialized: "True",
		},
		"a status with two states says nothing": {
			pod: pod(never, nil, "a"), before: corev1.PodRunning,
			containers: list{{Name: "a", State: corev1.ContainerState{
				Running: &corev1.ContainerStateRunning{}, Terminated: &corev1.ContainerStateTerminated{},
			}}},
			phase: corev1.PodRunning, ready: "False", initialized: "True",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			previous := c.pod.Status
			if c.before != "" {
				previous.Phase = c.before
			}
			status := podstatus.From(podstatus.Input{
				Pod: c.pod, Previous: previous, Now: at(10),
				Wire: interlink.PodStatus{Name: "p", UID: "u", Containers: c.containers, InitContainers: c.inits},
			})
			assert.Equal(t, c.phase, status.Phase)
			assert.Equal(t, c.ready, conditionOf(t, status, corev1.PodReady).Status)
			assert.Equal(t, c.ready, conditionOf(t, status, corev1.ContainersReady).Status)
			assert.Equal(t, c.initialized, conditionOf(t, status, corev1.PodInitialized).Status)
			assert.Equal(t, at(-60).Unix(), conditionOf(t, status, corev1.PodScheduled).LastTransitionTime.Unix())
			assert.Equal(t, corev1.PodQOSBurstable, status.QOSClass)
			require.Len(t, status.ContainerStatuses, len(c.pod.Spec.Containers))
			require.Len(t, status.InitContainerStatuses, len(c.pod.Spec.InitContainers))
		})
	}
}

func TestTransitionTimesChangeWithTheStatusOnly(t *testing.T) {
	t.Parallel()
	p := pod(corev1.RestartPolicyAlways, nil, "a")
	report := func(previous corev1.PodStatus, second int, statuses ...corev1.ContainerStatus) corev1.PodStatus {
		return podstatus.From(podstatus.Input{Pod: p, Previous: previous, Now: at(second), Wire: interlink.PodStatus{Name: "p", Containers: statuses}})
	}
	first := report(p.Status, 1, running("a", false))
	second := report(first, 2, running("a", true))
	third := report(second, 3, running("a", true))
	assert.Equal(t, at(2).Unix(), conditionOf(t, second, corev1.PodReady).LastTransitionTime.Unix())
	assert.Equal(t, at(2).Unix(), conditionOf(t, third, corev1.PodReady).LastTransitionTime.Unix())
	assert.Equal(t, second, third, "the same report gives the same status")
}

func TestFromDetail(t *testing.T) {
	t.Parallel()
	p := pod(corev1.RestartPolicyAlways, []string{"i"}, "a")
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: "example.org/gate", Status: "True"})
	crash := waiting("a", "CrashLoopBackOff")
	crash.RestartCount = 4
	crash.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}
	crash.VolumeMounts = []corev1.VolumeMountStatus{{Name: "remote", MountPath: "/x"}}
	status := podstatus.From(podstatus.Input{Pod: p, Previous: p.Status, Now: at(10), Wire: interlink.PodStatus{
		Name: "p", Containers: list{crash, running("injected", true)}, InitContainers: list{ended("i", 0)},
		Detail: &interlink.PodDetail{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}, {IP: "nonsense"}},
			HostIP: "192.0.2.1", StartTime: new(at(1)), QOSClass: corev1.PodQOSGuaranteed,
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: "True", LastTransitionTime: at(0)},
				{Type: corev1.PodReady, Status: "False", Reason: "ContainersNotReady", LastTransitionTime: at(7)},
				{Type: corev1.ContainersReady, Status: "False", LastTransitionTime: at(7)},
				{Type: corev1.PodInitialized, Status: "True", LastTransitionTime: at(2)},
				{Type: "remote.example.org/private", Status: "True"},
			},
		},
	}})
	assert.Equal(t, corev1.PodRunning, status.Phase)
	assert.Equal(t, "10.0.0.1", status.PodIP)
	assert.Equal(t, []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}, status.PodIPs)
	assert.Equal(t, "192.0.2.1", status.HostIPs[0].IP)
	assert.Equal(t, corev1.PodQOSBurstable, status.QOSClass, "the API server forbids to change it")
	require.Len(t, status.ContainerStatuses, 1, "a container that the far end injected is not the origin's")
	assert.Equal(t, int32(4), status.ContainerStatuses[0].RestartCount)
	assert.Equal(t, int32(137), status.ContainerStatuses[0].LastTerminationState.Terminated.ExitCode)
	assert.Empty(t, status.ContainerStatuses[0].VolumeMounts)
	assert.Equal(t, at(7).Unix(), conditionOf(t, status, corev1.PodReady).LastTransitionTime.Unix())
	assert.Equal(t, corev1.ConditionTrue, conditionOf(t, status, "example.org/gate").Status)
	for _, condition := range status.Conditions {
		assert.NotEqual(t, corev1.PodConditionType("remote.example.org/private"), condition.Type)
	}
}

func TestUnschedulableAtTheFarEnd(t *testing.T) {
	t.Parallel()
	p := pod(corev1.RestartPolicyNever, nil, "a")
	status := podstatus.From(podstatus.Input{Pod: p, Previous: p.Status, Now: at(10), Wire: interlink.PodStatus{
		Name: "p", Detail: &interlink.PodDetail{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: "False", Reason: "Unschedulable", Message: "0/3 nodes are available"},
		}},
	}})
	assert.Equal(t, corev1.PodPending, status.Phase)
	require.NotNil(t, status.ContainerStatuses[0].State.Waiting)
	assert.Equal(t, "Unschedulable", status.ContainerStatuses[0].State.Waiting.Reason)
	assert.Equal(t, corev1.ConditionTrue, conditionOf(t, status, corev1.PodScheduled).Status, "it is scheduled at the origin")
}

func TestEvictedWithoutContainers(t *testing.T) {
	t.Parallel()
	p := pod(corev1.RestartPolicyNever, nil, "a", "b")
	before := podstatus.From(podstatus.Input{Pod: p, Previous: p.Status, Now: at(1), Wire: interlink.PodStatus{
		Name: "p", Containers: list{running("a", true), ended("b", 3)},
	}})
	status := podstatus.From(podstatus.Input{Pod: p, Previous: before, Now: at(10), Wire: interlink.PodStatus{
		Name: "p", Detail: &interlink.PodDetail{Phase: corev1.PodFailed, Reason: "Evicted", Message: "low on disk"},
	}})
	assert.Equal(t, "Evicted", status.Reason)
	assert.Equal(t, int32(137), status.ContainerStatuses[0].State.Terminated.ExitCode)
	assert.Equal(t, int32(3), status.ContainerStatuses[1].State.Terminated.ExitCode, "known exit codes stay")
}

// The garbage collector of the far end's cluster gives up pods whose node is gone, and nobody says how their containers
// ended.
func TestNothingRunsInAnEndedPod(t *testing.T) {
	t.Parallel()
	p := pod(corev1.RestartPolicyNever, nil, "a", "b")
	wire := interlink.PodStatus{
		Name: "p", Containers: list{running("a", true), ended("b", 3)}, Detail: &interlink.PodDetail{Phase: corev1.PodFailed},
	}
	status := podstatus.From(podstatus.Input{Pod: p, Previous: p.Status, Now: at(10), Wire: wire})
	stopped := status.ContainerStatuses[0].State.Terminated
	require.NotNil(t, stopped)
	assert.Equal(t, int32(137), stopped.ExitCode)
	assert.Equal(t, "ContainerStatusUnknown", stopped.Reason)
	assert.True(t, stopped.StartedAt.Time.Equal(at(0).Rfc3339Copy().Time))
	assert.True(t, stopped.FinishedAt.Time.Equal(at(10).Rfc3339Copy().Time))
	assert.False(t, status.ContainerStatuses[0].Ready)
	assert.Equal(t, int32(3), status.ContainerStatuses[1].State.Terminated.ExitCode, "known exit codes stay")
	again := podstatus.From(podstatus.Input{Pod: p, Previous: status, Now: at(20), Wire: wire})
	assert.Equal(t, status, again, "the same report says the same")
}

// What waits in a pod that was evicted will not start, and what ran before has ended.
func TestNothingWaitsInAnEvictedPod(t *testing.T) {
	t.Parallel()
	waits := func(name string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}
	}
	for name, test := range map[string]struct {
		reason string
		ran    bool
		ends   bool
	}{
		"evicted before it started":    {"Evicted", false, true},
		"evicted":                      {"Evicted", true, true},
		"failed, as its status says":   {"", true, true},
		"failed before it could start": {"", false, false},
	} {
		p := pod(corev1.RestartPolicyNever, nil, "a", "b")
		if test.ran {
			p.Status.ContainerStatuses = list{running("a", true), running("b", true)}
		}
		wire := interlink.PodStatus{
			Name: "p", Containers: list{waits("a"), ended("b", 3)}, Detail: &interlink.PodDetail{Phase: corev1.PodFailed, Reason: test.reason},
		}
		status := podstatus.From(podstatus.Input{Pod: p, Previous: p.Status, Now: at(10), Wire: wire})
		stopped := status.ContainerStatuses[0].State.Terminated
		require.Equal(t, test.ends, stopped != nil, name)
		if test.ends {
			assert.Equal(t, int32(137), stopped.ExitCode, name)
			assert.Equal(t, status, podstatus.From(podstatus.Input{Pod: p, Previous: status, Now: at(20), Wire: wire}), "%s: the same report says the same", name)
		}
		assert.Equal(t, int32(3), status.ContainerStatuses[1].State.Terminated.ExitCode, name)
	}
}

// Only of a pod whose containers are about to be made there is nothing else to be said.
func TestStarting(t *testing.T) {
	t.Parallel()
	creating, initializing := waiting("a", "ContainerCreating"), waiting("a", "PodInitializing")
	explained := waiting("a", "ContainerCreating")
	explained.State.Waiting.Message = "the far end does not answer"
	pending := func(inits, containers list) corev1.PodStatus {
		return corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: inits, ContainerStatuses: containers}
	}
	evicted, full := pending(nil, list{creating}), pending(nil, list{creating})
	evicted.Reason, full.Message = "Evicted", "no room"
	for name, test := range map[string]struct {
		status corev1.PodStatus
		want   bool
	}{
		"nothing yet":            {pending(nil, nil), true},
		"creating":               {pending(nil, list{creating, creating}), true},
		"before its inits":       {pending(list{creating}, list{initializing}), true},
		"no image":               {pending(nil, list{creating, waiting("b", "ErrImagePull")}), false},
		"no image for an init":   {pending(list{waiting("i", "ErrImagePull")}, list{initializing}), false},
		"not scheduled":          {pending(nil, list{waiting("a", "Unschedulable")}), false},
		"an init runs":           {pending(list{running("i", false)}, list{initializing}), false},
		"one has ended":          {pending(nil, list{creating, ended("b", 1)}), false},
		"it is said why":         {pending(nil, list{explained}), false},
		"a reason of the pod":    {evicted, false},
		"a message of the pod":   {full, false},
		"runs, and says no more": {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: list{creating}}, false},
	} {
		assert.Equal(t, test.want, podstatus.Starting(&test.status), name)
	}
}

func TestReadinessGatesAreTheOrigins(t *testing.T) {
	t.Parallel()
	p := pod(corev1.RestartPolicyAlways, nil, "a")
	p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.org/gate"}}
	wire := interlink.PodStatus{Name: "p", Containers: list{running("a", true)}}
	status := podstatus.From(podstatus.Input{Pod: p, Previous: p.Status, Now: at(1), Wire: wire})
	assert.Equal(t, "ReadinessGatesNotReady", conditionOf(t, status, corev1.PodReady).Reason)
	assert.Equal(t, corev1.ConditionTrue, conditionOf(t, status, corev1.ContainersReady).Status)
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: "example.org/gate", Status: "True"})
	status = podstatus.From(podstatus.Input{Pod: p, Previous: p.Status, Now: at(1), Wire: wire})
	assert.Equal(t, corev1.ConditionTrue, conditionOf(t, status, corev1.PodReady).Status)
}

func TestContainersThatStayLocal(t *testing.T) {
	t.Parallel()
	p := pod(corev1.RestartPolicyNever, []string{"localinit"}, "a", "local")
	p.Annotations = map[string]string{
		interlink.AnnotationLocalContainers: "local", interlink.AnnotationLocalInitContainers: " localinit ",
	}
	report := func(previous corev1.PodStatus, s corev1.ContainerStatus) corev1.PodStatus {
		return podstatus.From(podstatus.Input{Pod: p, Previous: previous, Now: at(1), Wire: interlink.PodStatus{Name: "p", Containers: list{s}}})
	}
	status := report(p.Status, running("a", true))
	assert.Equal(t, corev1.PodRunning, status.Phase)
	assert.Equal(t, corev1.ConditionTrue, conditionOf(t, status, corev1.PodReady).Status)
	status = report(status, ended("a", 0))
	assert.Equal(t, corev1.PodSucceeded, status.Phase)
	require.NotNil(t, status.ContainerStatuses[1].State.Terminated)
	assert.Equal(t, "NotOffloaded", status.ContainerStatuses[1].State.Terminated.Reason)
}

func TestFailedKeepsWhatIsKnown(t *testing.T) {
	t.Parallel()
	p := pod(corev1.RestartPolicyNever, nil, "a", "b")
	before := podstatus.From(podstatus.Input{Pod: p, Previous: p.Status, Now: at(1), Wire: interlink.PodStatus{
		Name: "p", Containers: list{running("a", true), ended("b", 0)},
	}})
	status := podstatus.Failed(p, before, at(9), podstatus.Outcome{Reason: "Gone", Message: "it is gone", ExitCode: 137})
	assert.Equal(t, corev1.PodFailed, status.Phase)
	assert.Equal(t, "it is gone", status.Message)
	assert.Equal(t, int32(137), status.ContainerStatuses[0].State.Terminated.ExitCode)
	assert.Equal(t, int32(0), status.ContainerStatuses[1].State.Terminated.ExitCode)
	assert.Equal(t, "PodFailed", conditionOf(t, status, corev1.PodReady).Reason)
}

func TestEndedIsHonest(t *testing.T) {
	t.Parallel()
	p := pod(corev1.RestartPolicyAlways, nil, "a")
	cases := map[string]struct {
		statuses list
		known    bool
		phase    corev1.PodPhase
		code     *int32
	}{
		"never ran":            {nil, false, corev1.PodFailed, nil},
		"ended well":           {list{ended("a", 0)}, true, corev1.PodSucceeded, new(int32(0))},
		"killed":               {list{ended("a", 143)}, true, corev1.PodFailed, new(int32(143))},
		"ran, the end unknown": {list{running("a", true)}, true, corev1.PodFailed, new(int32(137))},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status := podstatus.Ended(podstatus.Input{
				Pod: p, Previous: p.Status, Now: at(9), Wire: interlink.PodStatus{Name: "p", Containers: c.statuses},
			}, c.known)
			assert.Equal(t, c.phase, status.Phase)
			state := status.ContainerStatuses[0].State
			if c.code == nil {
				assert.Nil(t, state.Terminated, "what never ran has no exit code")
				return
			}
			require.NotNil(t, state.Terminated)
			assert.Equal(t, *c.code, state.Terminated.ExitCode)
		})
	}
}

func TestStarted(t *testing.T) {
	t.Parallel()
	assert.False(t, podstatus.Started(&corev1.PodStatus{Phase: corev1.PodPending}))
	assert.False(t, podstatus.Started(&corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: list{waiting("a", "x")}}))
	assert.True(t, podstatus.Started(&corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: list{ended("i", 0)}}))
	assert.True(t, podstatus.Started(&corev1.PodStatus{Phase: corev1.PodRunning}))
	restarted := waiting("a", "CrashLoopBackOff")
	restarted.RestartCount = 1
	assert.True(t, podstatus.Started(&corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: list{restarted}}))
}
