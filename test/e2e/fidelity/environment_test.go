// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func environmentCases() []fidelityCase {
	return []fidelityCase{
		{name: "08 downward API in the environment", run: downwardEnvironment},
		{name: "08 downward API in volumes", run: downwardVolume},
		{name: "09 order and expansion of the environment", run: sameEnvironment},
	}
}

func fieldOf(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

func resourceOf(name, divisor string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: name, Divisor: quantity(divisor)}}
}

// variables reads what env printed.
func variables(text string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			found[name] = value
		}
	}
	return found
}

func downwardEnvironment(t *testing.T, r *room) {
	pod := r.shell("downward", "")
	pod.Labels = map[string]string{"app": "downward", "example.org/team": "cms"}
	pod.Annotations = map[string]string{"note": `it's $(NAME) "quoted"`}
	main := &pod.Spec.Containers[0]
	main.Command = []string{"env"}
	main.Resources = corev1.ResourceRequirements{
		Limits:   corev1.ResourceList{corev1.ResourceCPU: quantity("1500m"), corev1.ResourceEphemeralStorage: quantity("1Gi")},
		Requests: corev1.ResourceList{corev1.ResourceCPU: quantity("10m"), corev1.ResourceMemory: quantity("33Mi")},
	}
	main.Env = []corev1.EnvVar{
		{Name: "NAME", ValueFrom: fieldOf("metadata.name")},
		{Name: "NAMESPACE", ValueFrom: fieldOf("metadata.namespace")},
		{Name: "UID", ValueFrom: fieldOf("metadata.uid")},
		{Name: "NODE", ValueFrom: fieldOf("spec.nodeName")},
		{Name: "ACCOUNT", ValueFrom: fieldOf("spec.serviceAccountName")},
		{Name: "TEAM", ValueFrom: fieldOf("metadata.labels['example.org/team']")},
		{Name: "NOTE", ValueFrom: fieldOf("metadata.annotations['note']")},
		{Name: "NONE", ValueFrom: fieldOf("metadata.labels['none']")},
		{Name: "HOST_IP", ValueFrom: fieldOf("status.hostIP")},
		{Name: "HOST_IPS", ValueFrom: fieldOf("status.hostIPs")},
		{Name: "POD_IP", ValueFrom: fieldOf("status.podIP")},
		{Name: "POD_IPS", ValueFrom: fieldOf("status.podIPs")},
		{Name: "CPU", ValueFrom: resourceOf("limits.cpu", "0")},
		{Name: "MILLI", ValueFrom: resourceOf("limits.cpu", "1m")},
		{Name: "REQUEST", ValueFrom: resourceOf("requests.memory", "1Mi")},
		{Name: "STORAGE", ValueFrom: resourceOf("limits.ephemeral-storage", "1Ki")},
		{Name: "UNLIMITED", ValueFrom: resourceOf("limits.memory", "1")},
	}
	got := variables(r.run(t, pod))
	seen := r.get(t, "downward")
	far := r.awaitFar(t, seen)
	machine, err := r.caas.CoreV1().Nodes().Get(t.Context(), far.Spec.NodeName, metav1.GetOptions{})
	require.NoError(t, err)
	for name, want := range map[string]string{
		"NAME": "downward", "NAMESPACE": r.namespace, "UID": string(seen.UID), "NODE": r.node, "ACCOUNT": "default",
		"TEAM": "cms", "NOTE": `it's $(NAME) "quoted"`, "NONE": "",
		"HOST_IP": far.Status.HostIP, "HOST_IPS": far.Status.HostIP, "POD_IP": far.Status.PodIP, "POD_IPS": far.Status.PodIP,
		"CPU": "2", "MILLI": "1500", "REQUEST": "33", "STORAGE": "1048576",
		"UNLIMITED": machine.Status.Allocatable.Memory().AsDec().String(),
	} {
		assert.Equal(t, want, got[name], name)
	}
	assert.Equal(t, far.Status.PodIP, seen.Status.PodIP)
	assert.Equal(t, far.Status.HostIP, seen.Status.HostIP)
}

func downwardVolume(t *testing.T, r *room) {
	pod := r.shell("downward", "cd /pod; for f in name uid labels annotations cpu memory note; do echo \"$f:\"; cat $f; echo; done; stat -L -c %a cpu")
	pod.Labels = map[string]string{"app": "downward", "b": "2", "a": "1"}
	pod.Annotations = map[string]string{"note": "first line\nsecond \"line\"", "zero": ""}
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: quantity("1500m"), corev1.ResourceMemory: quantity("64Mi")}
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: quantity("1m")}
	mode := int32(0o440)
	field := func(path, from string) corev1.DownwardAPIVolumeFile {
		return corev1.DownwardAPIVolumeFile{Path: path, FieldRef: &corev1.ObjectFieldSelector{FieldPath: from}}
	}
	pod.Spec.Volumes = []corev1.Volume{{Name: "pod", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
		field("name", "metadata.name"), field("uid", "metadata.uid"), field("labels", "metadata.labels"), field("annotations", "metadata.annotations"),
		field("note", "metadata.annotations['note']"),
		{Path: "cpu", Mode: &mode, ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "main", Resource: "limits.cpu", Divisor: quantity("1m")}},
		{Path: "memory", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "main", Resource: "limits.memory"}},
	}}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "pod", MountPath: "/pod"}}
	got := r.run(t, pod)
	want := "name:\ndownward\nuid:\n" + string(r.get(t, "downward").UID) + "\nlabels:\na=\"1\"\napp=\"downward\"\nb=\"2\"\n" +
		"annotations:\nnote=\"first line\\nsecond \\\"line\\\"\"\nzero=\"\"\ncpu:\n1500\nmemory:\n67108864\nnote:\nfirst line\nsecond \"line\"\n440\n"
	assert.Equal(t, want, got)
}

// sameEnvironment runs one container on a node of the origin and away, and compares what env says.
func sameEnvironment(t *testing.T, r *room) {
	_, err := r.af.CoreV1().Services(r.namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: meta("dask-scheduler"),
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "none"}, Ports: []corev1.ServicePort{{Port: 8786, TargetPort: intstr.FromInt32(8786)}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	r.configMap(t, corev1.ConfigMap{ObjectMeta: meta("one"), Data: map[string]string{"MODE": "fast", "LEVEL": "3", "with-dash.and.dot": "x", "COST": "5$(LEVEL)"}})
	r.configMap(t, corev1.ConfigMap{ObjectMeta: meta("two"), Data: map[string]string{"MODE": "slow", "OTHER": "line one\\n"}})
	r.secret(t, corev1.Secret{ObjectMeta: meta("three"), StringData: map[string]string{"PASSWORD": "p$$w$(MODE)"}})
	from := func(prefix, name string) corev1.EnvFromSource {
		return corev1.EnvFromSource{Prefix: prefix, ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}
	}
	pod := r.shell("away", "")
	no := false
	pod.Spec.EnableServiceLinks = &no
	main := &pod.Spec.Containers[0]
	main.Command, main.Args = []string{"sh", "-c", `env | grep -v ^HOSTNAME= | sort; echo "args $0 $1 $2"`}, []string{"$(GREETING)", "$$(GREETING)", "$(UNSET)"}
	main.EnvFrom = []corev1.EnvFromSource{
		from("", "one"), from("", "two"), from("P_", "one"),
		{Prefix: "S_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "three"}}},
	}
	main.Env = []corev1.EnvVar{
		{Name: "FIRST", Value: "1"},
		{Name: "SECOND", Value: "$(FIRST)2"},
		{Name: "THIRD", Value: "$(SECOND)3 $(FOURTH)"},
		{Name: "FOURTH", Value: "4"},
		{Name: "GREETING", Value: "hello $(MODE) $(P_LEVEL) $$(MODE) $$$(MODE) $$$$ $(S_PASSWORD) $(not a name"},
		{Name: "FIRST", Value: "again $(FIRST)"},
		{Name: "LEVEL", Value: "over"},
		{Name: "SECRET", ValueFrom: &corev1.EnvVarSource{
			SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "three"}, Key: "PASSWORD"},
		}},
		{Name: "AFTER", Value: "$(SECRET)|$(LEVEL)"},
		{Name: "EMPTY"},
	}
	r.create(t, here(pod, "here"))
	links := pod.DeepCopy()
	links.Name, links.Spec.EnableServiceLinks = "links", nil
	r.create(t, links)
	away := r.run(t, pod)
	r.awaitPhase(t, "here", corev1.PodSucceeded)
	assert.Equal(t, settled(r.logs(t, "here", "main")), settled(away), "as a kubelet makes it")
	assert.Contains(t, away, "args hello slow 3")

	r.awaitPhase(t, "links", corev1.PodSucceeded)
	assert.NotContains(t, r.logs(t, "links", "main"), "DASK_SCHEDULER_PORT", "what a Service injects is read as configuration by some programs")
}

// settled leaves out what names the API server, which has another address for pods of each cluster.
func settled(environment string) []string {
	return slices.DeleteFunc(strings.Split(environment, "\n"), func(line string) bool { return strings.HasPrefix(line, "KUBERNETES_") })
}
