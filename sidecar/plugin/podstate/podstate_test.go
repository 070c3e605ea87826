// SPDX-License-Identifier: Apache-2.0

package podstate_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/podstate"
)

// Short forms of container statuses.
func running(name string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
}

func ended(name string, code int32, reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}}}
}

func waiting(name, reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
}

func started(status corev1.ContainerStatus) corev1.ContainerStatus {
	status.Started = new(true)
	return status
}

// form is a status in one word: running, waiting:<reason> or <exit code>:<reason>.
func form(t *testing.T, statuses []corev1.ContainerStatus) []string {
	t.Helper()
	forms := []string{}
	for i := range statuses {
		state, count, text := statuses[i].State, 0, ""
		if state.Running != nil {
			count++
			text = "running"
		}
		if state.Waiting != nil {
			count++
			text = "waiting:" + state.Waiting.Reason
		}
		if state.Terminated != nil {
			count++
			text = "terminated:" + state.Terminated.Reason
			if state.Terminated.ExitCode != 0 {
				text = "failed:" + state.Terminated.Reason
			}
		}
		require.Equal(t, 1, count, "exactly one state of %s", statuses[i].Name)
		forms = append(forms, statuses[i].Name+" "+text)
	}
	return forms
}

type scenario struct {
	policy corev1.RestartPolicy
	// inits and sidecars are init containers, sidecars last; mains are containers.
	inits, sidecars, mains []string
	annotations            map[string]string
	// heard are names that the reader's copy of the pod has statuses of.
	heard     []string
	remote    corev1.PodStatus
	want      []string
	wantInits []string
}

func (s scenario) origin() *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u", Annotations: s.annotations},
		Spec:       corev1.PodSpec{RestartPolicy: s.policy},
	}
	for _, name := range s.inits {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name})
	}
	for _, name := range s.sidecars {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name, RestartPolicy: &always})
	}
	for _, name := range s.mains {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name})
	}
	for _, name := range s.heard {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, waiting(name, "x"))
		pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, waiting(name, "x"))
	}
	return pod
}

func TestConservative(t *testing.T) {
	t.Parallel()
	unschedulable := []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes"}}
	for name, test := range map[string]scenario{
		"no status yet": {
			mains: []string{"a", "b"}, remote: corev1.PodStatus{Phase: corev1.PodPending},
			want: []string{"a waiting:ContainerCreating", "b waiting:ContainerCreating"},
		},
		"unschedulable": {
			mains: []string{"a"}, remote: corev1.PodStatus{Phase: corev1.PodPending, Conditions: unschedulable},
			want: []string{"a waiting:Unschedulable"},
		},
		"unschedulable with init": {
			inits: []string{"i"}, mains: []string{"a"}, remote: corev1.PodStatus{Phase: corev1.PodPending, Conditions: unschedulable},
			wantInits: []string{"i waiting:Unschedulable"}, want: []string{"a waiting:Unschedulable"},
		},
		"image cannot be pulled": {
			mains: []string{"a"}, remote: corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{waiting("a", "ImagePullBackOff")}},
			want: []string{"a waiting:ImagePullBackOff"},
		},
		"one runs, the other is missing": {
			mains: []string{"a", "b"}, remote: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{running("a")}},
			want: []string{"a running", "b waiting:ContainerCreating"},
		},
		"restarts always": {
			policy: corev1.RestartPolicyAlways, mains: []string{"a"}, heard: []string{"a"},
			remote: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{ended("a", 137, "OOMKilled")}},
			want:   []string{"a waiting:CrashLoopBackOff"},
		},
		"restarts on failure": {
			policy: corev1.RestartPolicyOnFailure, mains: []string{"a", "b"}, heard: []string{"a", "b"},
			remote: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{ended("a", 1, "Error"), ended("b", 0, "Completed")}},
			want:   []string{"a waiting:CrashLoopBackOff", "b terminated:Completed"},
		},
		"never restarts, heard of": {
			policy: corev1.RestartPolicyNever, mains: []string{"a", "b"}, heard: []string{"a", "b"},
			remote: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{running("a"), ended("b", 42, "Error")}},
			want:   []string{"a running", "b failed:Error"},
		},
		"never restarts, second not heard of": {
			policy: corev1.RestartPolicyNever, mains: []string{"a", "b"},
			remote: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{running("a"), ended("b", 42, "Error")}},
			want:   []string{"a running", "b waiting:Error"},
		},
		"succeeded": {
			mains: []string{"a"}, remote: corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{ended("a", 0, "Completed")}},
			want: []string{"a terminated:Completed"},
		},
		"succeeded, records gone": {
			inits: []string{"i"}, mains: []string{"a"}, remote: corev1.PodStatus{Phase: corev1.PodSucceeded},
			wantInits: []string{"i terminated:Completed"}, want: []string{"a terminated:Completed"},
		},
		"evicted without statuses": {
			mains: []string{"a"}, remote: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "disk"},
			want: []string{"a failed:Evicted"},
		},
		"deadline passed with clean exits": {
			mains: []string{"a"}, remote: corev1.PodStatus{
				Phase: corev1.PodFailed, Reason: "DeadlineExceeded", ContainerStatuses: []corev1.ContainerStatus{ended("a", 0, "Completed")},
			},
			want: []string{"a failed:DeadlineExceeded"},
		},
		"mixed exits": {
			mains: []string{"a", "b"}, remote: corev1.PodStatus{
				Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{ended("a", 0, "Completed"), ended("b", 3, "Error")},
			},
			want: []string{"a terminated:Completed", "b failed:Error"},
		},
		"init runs": {
			inits: []string{"i", "j"}, mains: []string{"a"}, heard: []string{"i", "j"},
			remote: corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{running("i"), ended("j", 0, "Completed")}},
			// A later one cannot have ended; upstream's virtual kubelet would stop.
			wantInits: []string{"i running", "j waiting:PodInitializing"}, want: []string{"a waiting:PodInitializing"},
		},
		"first report after both inits ended": {
			inits: []string{"i", "j"}, mains: []string{"a"},
			remote: corev1.PodStatus{
				Phase: corev1.PodRunning, InitContainerStatuses: []corev1.ContainerStatus{ended("i", 0, "Completed"), ended("j", 0, "Completed")},
				ContainerStatuses: []corev1.ContainerStatus{running("a")},
			},
			wantInits: []string{"i terminated:Completed", "j waiting:Completed"}, want: []string{"a running"},
		},
		"init restarts": {
			policy: corev1.RestartPolicyAlways, inits: []string{"i"}, mains: []string{"a"},
			remote:    corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{ended("i", 1, "Error")}},
			wantInits: []string{"i waiting:CrashLoopBackOff"}, want: []string{"a waiting:PodInitializing"},
		},
		"init failed for good": {
			policy: corev1.RestartPolicyNever, inits: []string{"i", "j"}, mains: []string{"a"},
			remote: corev1.PodStatus{
				Phase: corev1.PodFailed, InitContainerStatuses: []corev1.ContainerStatus{ended("i", 1, "Error"), waiting("j", "PodInitializing")},
				ContainerStatuses: []corev1.ContainerStatus{waiting("a", "PodInitializing")},
			},
			wantInits: []string{"i failed:Error", "j failed:PodInitFailed"}, want: []string{"a failed:PodInitFailed"},
		},
		"sidecar starts": {
			sidecars: []string{"s"}, mains: []string{"a"},
			remote:    corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{running("s")}},
			wantInits: []string{"s waiting:PodInitializing"}, want: []string{"a waiting:PodInitializing"},
		},
		"sidecar runs": {
			sidecars: []string{"s"}, mains: []string{"a"},
			remote: corev1.PodStatus{
				Phase: corev1.PodRunning, InitContainerStatuses: []corev1.ContainerStatus{started(running("s"))},
				ContainerStatuses: []corev1.ContainerStatus{running("a")},
			},
			want: []string{"a running"},
		},
		"sidecar killed at the end": {
			policy: corev1.RestartPolicyNever, sidecars: []string{"s"}, mains: []string{"a"},
			remote: corev1.PodStatus{
				Phase: corev1.PodSucceeded, InitContainerStatuses: []corev1.ContainerStatus{ended("s", 137, "Error")},
				ContainerStatuses: []corev1.ContainerStatus{ended("a", 0, "Completed")},
			},
			want: []string{"a terminated:Completed"},
		},
		"injected containers are filtered": {
			mains: []string{"a"}, remote: corev1.PodStatus{
				Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{running("mesh"), running("a")},
				InitContainerStatuses: []corev1.ContainerStatus{running("mesh-init")},
			},
			want: []string{"a running"},
		},
		"local containers": {
			annotations: map[string]string{interlink.AnnotationLocalContainers: "l, m", interlink.AnnotationLocalInitContainers: "i"},
			inits:       []string{"i"}, mains: []string{"a", "l"},
			remote:    corev1.PodStatus{Phase: corev1.PodPending},
			wantInits: []string{"i terminated:Completed"}, want: []string{"a waiting:ContainerCreating", "l running"},
		},
		"local containers end with the pod": {
			annotations: map[string]string{interlink.AnnotationLocalContainers: "l"}, mains: []string{"a", "l"},
			remote: corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{ended("a", 0, "Completed")}},
			want:   []string{"a terminated:Completed", "l terminated:Completed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			remote := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p-1", Namespace: "cms"}, Status: test.remote}
			before := remote.DeepCopy()
			status := podstate.Conservative(test.origin(), remote)
			assert.Equal(t, "cms/p-1", status.JobID)
			assert.Equal(t, "u", status.UID)
			assert.Equal(t, test.want, form(t, status.Containers))
			if test.wantInits == nil {
				test.wantInits = []string{}
			}
			assert.Equal(t, test.wantInits, form(t, status.InitContainers))
			assert.Nil(t, status.Detail, "upstream's form")
			assert.Equal(t, before, remote, "the shared pod is not changed")
		})
	}
}

func TestConservativeKeepsCounts(t *testing.T) {
	t.Parallel()
	status := ended("a", 137, "OOMKilled")
	status.RestartCount, status.ContainerID, status.ImageID = 4, "containerd://1", "sha256:1"
	origin := scenario{policy: corev1.RestartPolicyAlways, mains: []string{"a"}}.origin()
	got := podstate.Conservative(origin, &corev1.Pod{Status: corev1.PodStatus{
		Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{status},
	}}).Containers[0]
	assert.EqualValues(t, 4, got.RestartCount)
	assert.Equal(t, "containerd://1", got.ContainerID)
	assert.Equal(t, "OOMKilled", got.LastTerminationState.Terminated.Reason)
}

func TestAbsent(t *testing.T) {
	t.Parallel()
	test := scenario{inits: []string{"i"}, mains: []string{"a", "b"}}
	assert.Equal(t, []string{"a waiting:PodNotCreated", "b waiting:PodNotCreated"}, form(t, podstate.Absent(test.origin()).Containers))
	test.annotations = map[string]string{interlink.AnnotationJobID: ""}
	lost := podstate.Absent(test.origin())
	assert.Equal(t, []string{"a failed:RemotePodLost", "b failed:RemotePodLost"}, form(t, lost.Containers))
	assert.Equal(t, []string{"i failed:RemotePodLost"}, form(t, lost.InitContainers))
}

func TestTrue(t *testing.T) {
	t.Parallel()
	now := metav1.Now()
	remote := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "p-1", Namespace: "cms", DeletionTimestamp: &now, Labels: map[string]string{"offload.infn.it/uid": "u"},
			Annotations: map[string]string{
				"offload.infn.it/name": "p", "offload.infn.it/namespace": "n", "offload.infn.it/cluster": "c", "offload.infn.it/node": "vk",
			},
		},
		Spec: corev1.PodSpec{NodeName: "node-1"},
		Status: corev1.PodStatus{
			Phase: corev1.PodFailed, Reason: "Evicted", Message: "disk", PodIP: "10.0.0.1", HostIP: "192.0.2.1", QOSClass: corev1.PodQOSBurstable,
			StartTime: &now, Conditions: []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
			ContainerStatuses:          []corev1.ContainerStatus{ended("a", 137, "Error")},
			EphemeralContainerStatuses: []corev1.ContainerStatus{ended("doctor", 4, "Error")},
		},
	}
	assert.Equal(t, interlink.PodStatus{
		Name: "p", Namespace: "n", UID: "u", JobID: "cms/p-1",
		Containers: remote.Status.ContainerStatuses, InitContainers: []corev1.ContainerStatus{},
		Detail: &interlink.PodDetail{
			Phase: corev1.PodFailed, Reason: "Evicted", Message: "disk", PodIP: "10.0.0.1", HostIP: "192.0.2.1", QOSClass: corev1.PodQOSBurstable,
			StartTime: &now, Conditions: remote.Status.Conditions, RemoteNamespace: "cms", RemoteName: "p-1", RemoteNode: "node-1",
			Deleting: true, OriginCluster: "c", OriginNode: "vk", EphemeralContainers: remote.Status.EphemeralContainerStatuses,
		},
	}, podstate.True(remote))
}
